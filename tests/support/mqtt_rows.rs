//! The rows of `tests/golden/mqtt_packets.txt`.

use std::collections::BTreeMap;

const TABLE: &str = include_str!("../golden/mqtt_packets.txt");

/// When the bytes of a row are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// In place of CONNECT.
    First,
    /// After an accepted CONNECT.
    Later,
}

/// Reaction of the bridge to the bytes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Bytes that it sends.
    pub(crate) bytes: Vec<u8>,
    /// Whether it closes the connection then.
    pub(crate) is_closed: bool,
}

/// A row for one version.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Line of the table, version, rule and packet, for the reader of a failure.
    pub(crate) name: String,
    /// Whether it is about MQTT 3.1; else it is about 3.1.1.
    pub(crate) is_3_1: bool,
    /// When it is sent.
    pub(crate) moment: Moment,
    /// Result of the codec: `ok`, or the name of its error.
    pub(crate) codec: &'static str,
    /// Reaction of the bridge.
    pub(crate) answer: Answer,
    bytes: &'static str,
}

impl Row {
    /// The bytes, with this user name and password for device1.
    pub(crate) fn bytes(&self, username: &str, password: &str) -> Vec<u8> {
        let version = if self.is_3_1 { "\0\u{6}MQIsdp\u{3}" } else { "\0\u{4}MQTT\u{4}" };
        let fields = BTreeMap::from([
            ("version", version.as_bytes().to_vec()),
            ("id", field(b"device1")),
            ("user", field(username.as_bytes())),
            ("password", field(password.as_bytes())),
        ]);
        let mut tokens = tokens(self.bytes);
        let mut bytes = Vec::new();
        // From the end, as a length counts what is behind it.
        while let Some(token) = tokens.pop() {
            let front = match token.as_bytes() {
                b"len" => length(bytes.len()),
                [b'"', text @ .., b'"'] => field(&unescape(text)),
                [b'\'', text @ .., b'\''] => unescape(text),
                [b'{', .., b'}'] => fields[token.trim_matches(['{', '}'])].clone(),
                _ => hex(token),
            };
            bytes.splice(..0, front);
        }
        bytes
    }
}

/// All rows, those of both versions twice.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut moment = Moment::First;
    for (number, line) in (1..).zip(TABLE.lines()) {
        match line {
            "[first]" => moment = Moment::First,
            "[later]" => moment = Moment::Later,
            _ if line.is_empty() || line.starts_with('#') => {}
            _ => rows.extend(versions(number, line, moment)),
        }
    }
    assert!(rows.len() > 400, "the table was not read");
    rows
}

fn versions(number: usize, line: &'static str, moment: Moment) -> Vec<Row> {
    let columns: Vec<&'static str> = line.split(" | ").map(str::trim).collect();
    let [versions, rule, packet, bytes, codec, answer] = columns[..] else {
        panic!("line {number} has {} columns", columns.len())
    };
    let all = [(true, "3.1"), (false, "3.1.1")];
    let meant: Vec<_> = all.into_iter().filter(|(_, version)| versions == *version || versions == "both").collect();
    assert!(!meant.is_empty(), "line {number} is about no version");
    let words: Vec<&str> = answer.split(' ').collect();
    let is_closed = words.contains(&"closed");
    let answered: Vec<u8> =
        words.iter().filter(|word| !matches!(**word, "closed" | "-")).flat_map(|word| hex(word)).collect();
    let row = |(is_3_1, version)| Row {
        name: format!("line {number}, MQTT {version}, {rule}: {packet}"),
        is_3_1,
        moment,
        codec,
        answer: Answer { bytes: answered.clone(), is_closed },
        bytes,
    };
    meant.into_iter().map(row).collect()
}

/// Splits at spaces outside quotes.
fn tokens(text: &'static str) -> Vec<&'static str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' | '\'' => {
                // A payload in single quotes may hold double ones, and a text in double quotes none.
                let close = rest[1..].find(first).unwrap_or_else(|| panic!("no end of a quote: {text}"));
                close + 2
            }
            _ => rest.find(' ').unwrap_or(rest.len()),
        };
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        match (byte, behind) {
            (b'\\', [b'x', high, low, behind @ ..]) => {
                bytes.extend(hex(std::str::from_utf8(&[*high, *low]).expect("two digits")));
                rest = behind;
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

fn hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "half a byte: {digits}");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_else(|error| panic!("{error}: {digits}"));
    (0..digits.len()).step_by(2).map(byte).collect()
}

fn field(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("fields of the table are short");
    [&length.to_be_bytes(), content].concat()
}

fn length(mut count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(count % 128).expect("a remainder of 128 is small");
        count /= 128;
        bytes.push(if count > 0 { low | 0x80 } else { low });
        if count == 0 {
            return bytes;
        }
    }
}
