//! The scanner: one pass over a payload.

use smallvec::SmallVec;

use super::plain::plain_length;
use super::tag::{has_equal, tag};
use super::{DEPTH_MAX, JsonError, JsonErrorKind, unescape};

/// Tags of keys that need no allocation: those of nearly all payloads.
const TAGS_INLINE: usize = 32;

/// Type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// `"…"`
    Text,
    /// A number.
    Number,
    /// `true` or `false`.
    Bool,
    /// `null`
    Null,
}

/// One member of the outermost object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// The key as written, between its quotes.
    pub key: &'a str,
    /// Whether the key holds escapes.
    pub key_escaped: bool,
    /// The value as written.
    pub value: &'a str,
    /// Type of the value.
    pub kind: Kind,
    /// Whether the value holds line breaks between its parts, or (perhaps) an object that has a key twice: then
    /// [`compact`](super::compact) must write it.
    pub irregular: bool,
}

/// Checks the whole payload and yields the members of its object in their order, duplicates included.
///
/// # Errors
/// [`JsonError`] for anything but one JSON object; members before the place of the error were yielded then.
#[inline]
pub fn scan<'a>(payload: &'a [u8], mut each: impl FnMut(Member<'a>)) -> Result<(), JsonError> {
    let text = std::str::from_utf8(payload)
        .map_err(|error| JsonError { kind: JsonErrorKind::Utf8, offset: error.valid_up_to() })?;
    let at = if payload.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut scanner = Scanner { bytes: payload, at, irregular: false, tags: SmallVec::new(), base: 0 };
    scanner.space();
    match scanner.peek()? {
        b'{' => scanner.at += 1,
        b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => return Err(scanner.error(JsonErrorKind::NotObject)),
        byte => return Err(scanner.error(JsonErrorKind::Unexpected(byte))),
    }
    scanner.space();
    if scanner.peek()? == b'}' {
        scanner.at += 1;
    } else {
        loop {
            let key = scanner.key()?;
            scanner.irregular = false;
            let start = scanner.at;
            let kind = scanner.value()?;
            each(Member {
                key: &text[key.start..key.end],
                key_escaped: key.escaped,
                value: &text[start..scanner.at],
                kind,
                irregular: scanner.irregular,
            });
            scanner.space();
            match scanner.peek()? {
                b',' => scanner.at += 1,
                b'}' => {
                    scanner.at += 1;
                    break;
                }
                byte => return Err(scanner.error(JsonErrorKind::Unexpected(byte))),
            }
            scanner.space();
        }
    }
    scanner.space();
    if scanner.at < payload.len() {
        return Err(scanner.error(JsonErrorKind::Trailing));
    }
    Ok(())
}

/// A string between its quotes.
struct Span {
    start: usize,
    end: usize,
    escaped: bool,
}

/// Its small steps are always inlined: together they take a third of the time off payloads of many short members.
struct Scanner<'a> {
    /// Valid UTF-8.
    bytes: &'a [u8],
    at: usize,
    irregular: bool,
    /// For each nested object that is open: where the tags of the one around it begin, then a tag per key.
    tags: SmallVec<[u64; TAGS_INLINE]>,
    /// Start of the tags of the innermost open object.
    base: usize,
}

impl Scanner<'_> {
    fn error(&self, kind: JsonErrorKind) -> JsonError {
        JsonError { kind, offset: self.at }
    }

    #[inline(always)]
    fn peek(&self) -> Result<u8, JsonError> {
        match self.bytes.get(self.at) {
            Some(byte) => Ok(*byte),
            None => Err(self.error(JsonErrorKind::End)),
        }
    }

    #[inline(always)]
    fn space(&mut self) {
        while let Some(byte @ 0..=b' ') = self.bytes.get(self.at) {
            match byte {
                b' ' | b'\t' => {}
                b'\n' | b'\r' => self.irregular = true,
                _ => return,
            }
            self.at += 1;
        }
    }

    /// A key, its colon and the spaces behind, up to the value.
    #[inline(always)]
    fn key(&mut self) -> Result<Span, JsonError> {
        match self.peek()? {
            b'"' => {}
            byte => return Err(self.error(JsonErrorKind::Unexpected(byte))),
        }
        let start = self.at + 1;
        let escaped = self.string()?;
        let end = self.at - 1;
        self.space();
        match self.peek()? {
            b':' => self.at += 1,
            byte => return Err(self.error(JsonErrorKind::Unexpected(byte))),
        }
        self.space();
        Ok(Span { start, end, escaped })
    }

    /// One value from its first to its last byte. Keeps what is open in the bits of a word: 1 is an object.
    fn value(&mut self) -> Result<Kind, JsonError> {
        let first = self.peek()?;
        let kind = self.start(first)?;
        if !matches!(kind, Kind::Object | Kind::Array) {
            return Ok(kind);
        }
        self.tags.clear();
        self.base = 0;
        let mut open = 0_u64;
        // The outermost object, which `scan` reads, is one.
        let mut depth = 1;
        let mut begun = kind;
        loop {
            match begun {
                Kind::Object => {
                    depth += 1;
                    open = open << 1 | 1;
                    self.tags.push(self.base as u64);
                    self.base = self.tags.len();
                }
                Kind::Array => {
                    depth += 1;
                    open <<= 1;
                }
                _ => {}
            }
            if depth > DEPTH_MAX {
                return Err(JsonError { kind: JsonErrorKind::Depth, offset: self.at - 1 });
            }
            let empty = matches!(begun, Kind::Object | Kind::Array);
            // Closes what ends here, then goes on to the next value inside what is open.
            let mut fresh = empty;
            loop {
                self.space();
                let byte = self.peek()?;
                let object = open & 1 == 1;
                match byte {
                    b'}' if object => self.close_object(),
                    b']' if !object => {}
                    b',' if !fresh => {
                        self.at += 1;
                        self.space();
                        break;
                    }
                    _ if fresh => break,
                    _ => return Err(self.error(JsonErrorKind::Unexpected(byte))),
                }
                self.at += 1;
                open >>= 1;
                depth -= 1;
                fresh = false;
                if depth == 1 {
                    return Ok(kind);
                }
            }
            if open & 1 == 1 {
                self.tagged_key()?;
            }
            let byte = self.peek()?;
            begun = self.start(byte)?;
        }
    }

    /// A scalar whole, or the bracket of what is nested.
    #[inline(always)]
    fn start(&mut self, byte: u8) -> Result<Kind, JsonError> {
        match byte {
            b'"' => {
                self.string()?;
                Ok(Kind::Text)
            }
            b'-' | b'0'..=b'9' => {
                self.number()?;
                Ok(Kind::Number)
            }
            b'{' => {
                self.at += 1;
                Ok(Kind::Object)
            }
            b'[' => {
                self.at += 1;
                Ok(Kind::Array)
            }
            b't' => self.word(b"true", Kind::Bool),
            b'f' => self.word(b"false", Kind::Bool),
            b'n' => self.word(b"null", Kind::Null),
            _ => Err(self.error(JsonErrorKind::Unexpected(byte))),
        }
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<Kind, JsonError> {
        for expected in word {
            let byte = self.peek()?;
            if byte != *expected {
                return Err(self.error(JsonErrorKind::Unexpected(byte)));
            }
            self.at += 1;
        }
        Ok(kind)
    }

    /// Index behind the digits that begin at `at`.
    #[inline]
    fn digits(&self, mut at: usize) -> usize {
        while self.bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    }

    #[inline(always)]
    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at + usize::from(self.bytes[self.at] == b'-');
        let mut at = self.digits(start);
        if at == start || (self.bytes[start] == b'0' && at > start + 1) {
            return Err(self.malformed(start));
        }
        if self.bytes.get(at) == Some(&b'.') {
            let fraction = at + 1;
            at = self.digits(fraction);
            if at == fraction {
                return Err(self.malformed(at));
            }
        }
        if let Some(b'e' | b'E') = self.bytes.get(at) {
            let exponent = at + 1 + usize::from(matches!(self.bytes.get(at + 1), Some(b'+' | b'-')));
            at = self.digits(exponent);
            if at == exponent {
                return Err(self.malformed(at));
            }
        }
        self.at = at;
        Ok(())
    }

    #[cold]
    fn malformed(&self, offset: usize) -> JsonError {
        let kind = if offset == self.bytes.len() { JsonErrorKind::End } else { JsonErrorKind::Number };
        JsonError { kind, offset }
    }

    /// A string with both its quotes; whether it holds escapes.
    #[inline(always)]
    fn string(&mut self) -> Result<bool, JsonError> {
        self.at += 1;
        let mut escaped = false;
        loop {
            self.at += plain_length(&self.bytes[self.at..]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Ok(escaped);
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                byte => return Err(self.error(JsonErrorKind::Control(byte))),
            }
        }
    }

    #[cold]
    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.at += 1;
                Ok(())
            }
            b'u' => {
                let start = self.at - 1;
                self.at += 1;
                let unit = self.hex()?;
                match unit {
                    0xd800..0xdc00 => {
                        for expected in *b"\\u" {
                            if self.peek()? != expected {
                                return Err(JsonError { kind: JsonErrorKind::Surrogate, offset: start });
                            }
                            self.at += 1;
                        }
                        if !(0xdc00..0xe000).contains(&self.hex()?) {
                            return Err(JsonError { kind: JsonErrorKind::Surrogate, offset: start });
                        }
                        Ok(())
                    }
                    0xdc00..0xe000 => Err(JsonError { kind: JsonErrorKind::Surrogate, offset: start }),
                    _ => Ok(()),
                }
            }
            _ => Err(self.error(JsonErrorKind::Escape)),
        }
    }

    fn hex(&mut self) -> Result<u32, JsonError> {
        let mut unit = 0;
        for _ in 0..4 {
            let digit = char::from(self.peek()?).to_digit(16).ok_or(self.error(JsonErrorKind::Escape))?;
            unit = unit << 4 | digit;
            self.at += 1;
        }
        Ok(unit)
    }

    #[inline(always)]
    fn tagged_key(&mut self) -> Result<(), JsonError> {
        let key = self.key()?;
        let raw = &self.bytes[key.start..key.end];
        let tag = match key.escaped {
            false => tag(raw),
            // The whole payload was checked, and a string ends at character boundaries.
            true => tag(unescape(std::str::from_utf8(raw).unwrap_or_default()).as_bytes()),
        };
        self.tags.push(tag);
        Ok(())
    }

    /// Looks for equal tags and gives room back. Equal keys have equal tags; the reverse is likely and not needed.
    fn close_object(&mut self) {
        self.irregular |= has_equal(&mut self.tags[self.base..]);
        let around = self.tags[self.base - 1] as usize;
        self.tags.truncate(self.base - 1);
        self.base = around;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(payload: &[u8]) -> Option<JsonErrorKind> {
        scan(payload, |_| ()).err().map(|error| error.kind)
    }

    fn irregular(value: &str) -> bool {
        let mut found = false;
        let payload = format!("{{\"a\":{value}}}");
        assert_eq!(scan(payload.as_bytes(), |member| found |= member.irregular), Ok(()), "{payload}");
        found
    }

    #[test]
    fn members_are_slices_of_the_payload_in_its_order() {
        let mut members = Vec::new();
        let payload = "\u{feff} { \"a\" : 1.50 , \"b\\u0063\":{ \"x\": [ 1 ] } ,\"a\":null}\n";
        assert_eq!(scan(payload.as_bytes(), |member| members.push(member)), Ok(()));
        let texts: Vec<_> = members.iter().map(|member| (member.key, member.value, member.kind)).collect();
        assert_eq!(
            texts,
            [("a", "1.50", Kind::Number), ("b\\u0063", "{ \"x\": [ 1 ] }", Kind::Object), ("a", "null", Kind::Null)]
        );
        assert!(members[1].key_escaped && !members[0].key_escaped);
    }

    #[test]
    fn what_is_no_json_object_is_refused_for_its_reason() {
        use JsonErrorKind::*;
        let rows: [(&[u8], JsonErrorKind); 28] = [
            (b"", End),
            (b" ", End),
            (b"{", End),
            (b"{\"a", End),
            (b"{\"a\":1", End),
            (b"{\"a\":-", End),
            (b"null", NotObject),
            (b"[{}]", NotObject),
            (b"x", Unexpected(b'x')),
            (b"{}{", Trailing),
            (b"{} x", Trailing),
            (b"{\"a\":1,}", Unexpected(b'}')),
            (b"{,}", Unexpected(b',')),
            (b"{\"a\":[1,]}", Unexpected(b']')),
            (b"{\"a\":[,1]}", Unexpected(b',')),
            (b"{\"a\":[1}}", Unexpected(b'}')),
            (b"{\"a\":{\"b\":1]}", Unexpected(b']')),
            (b"{'a':1}", Unexpected(b'\'')),
            (b"{\"a\":nul}", Unexpected(b'}')),
            (b"{\"a\":01}", Number),
            (b"{\"a\":1.}", Number),
            (b"{\"a\":+1}", Unexpected(b'+')),
            (b"{\"a\":1e}", Number),
            (b"{\"a\":\"\x01\"}", Control(1)),
            (b"{\"a\":\"\\x\"}", Escape),
            (b"{\"a\":\"\\ud800\"}", Surrogate),
            (b"{\"a\":\"\\udc00\\ud800\"}", Surrogate),
            (b"{\"a\":\"\xff\"}", Utf8),
        ];
        for (payload, kind) in rows {
            assert_eq!(kind_of(payload), Some(kind), "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn depth_is_counted_from_the_outermost_object() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let inner = if open == "[" { "" } else { "1" };
            let nest = |depth: usize| format!("{{\"a\":{}{inner}{}}}", open.repeat(depth - 1), close.repeat(depth - 1));
            assert_eq!(kind_of(nest(DEPTH_MAX).as_bytes()), None);
            assert_eq!(kind_of(nest(DEPTH_MAX + 1).as_bytes()), Some(JsonErrorKind::Depth));
            assert_eq!(kind_of("{\"a\":".repeat(1_000_000).as_bytes()), Some(JsonErrorKind::Depth));
        }
    }

    #[test]
    fn a_value_is_irregular_when_it_spans_lines_or_has_a_key_twice() {
        for value in ["{\"a\":1,\"b\":{\"a\":2},\"c\":[{\"a\":1},{\"a\":1}]}", "[1, 2]", "\"\\n\"", "{}"] {
            assert!(!irregular(value), "{value}");
        }
        for value in ["[1,\n2]", "{\"a\":1,\"\\u0061\":1}", "[[{\"x\":{\"b\":1,\"a\":1,\"b\":1}}]]", "{\r}"] {
            assert!(irregular(value), "{value}");
        }
    }

    #[test]
    fn a_key_is_found_twice_among_a_hundred_thousand() {
        let many = |last: &str| {
            let keys: String = (0..100_000).map(|key| format!("\"{key}\":0,")).collect();
            format!("{{{keys}\"{last}\":0}}")
        };
        assert!(!irregular(&many("100000")));
        assert!(irregular(&many("4711")));
    }

    #[test]
    fn a_key_is_found_twice_among_any_number_of_keys_of_any_length() {
        for count in [1, 2, 7, 8, 9, 15, 16, 17, 127, 128, 129, 300] {
            for padding in ["", "k", "key", "a key of some length", "a key that is even longer than that"] {
                let keys: Vec<String> = (0..count).map(|key| format!("\"{padding}{key:03}\":0")).collect();
                assert!(!irregular(&format!("{{{}}}", keys.join(","))), "{count} {padding}");
                for twice in [0, count / 2, count - 1] {
                    assert!(irregular(&format!("{{{},{}}}", keys.join(","), keys[twice])), "{count} {padding} {twice}");
                }
            }
        }
    }
}
