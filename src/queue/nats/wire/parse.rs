//! Operations of a server, read where they lie in the buffer.

use memchr::memchr;

/// Longest line without its end, in bytes. INFO is the longest: it names every server of a cluster.
pub const LINE_BYTES_MAX: usize = 64 * 1024;

/// Largest message with its headers, in bytes: `max_payload` of a nats-server is at most 64 MiB.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// One operation of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerOp<'a> {
    /// The server about itself, in JSON that was not read.
    Info(&'a [u8]),
    /// A message on a subscription.
    Message(Delivery<'a>),
    /// The server wants a PONG.
    Ping,
    /// The answer to a PING.
    Pong,
    /// An operation was taken; only a client that asks for it (`verbose`) is told.
    Ok,
    /// The server objects; the text without its quotes.
    Error(&'a str),
}

/// A message on a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// Subject that it was published on: no space, not necessarily UTF-8.
    pub subject: &'a [u8],
    /// Number of the subscription.
    pub sid: u64,
    /// Subject on which an answer is wanted, as [`Delivery::subject`].
    pub reply: Option<&'a [u8]>,
    /// Headers with their version line and their last empty line; empty where there are none. Any bytes.
    pub headers: &'a [u8],
    /// The rest.
    pub payload: &'a [u8],
}

impl Delivery<'_> {
    /// The status in the version line of the headers (`NATS/1.0 503`), by which a server itself answers. `None` where there
    /// is none, or no number of three digits.
    pub fn status(&self) -> Option<u16> {
        let rest = self.headers.strip_prefix(b"NATS/1.0")?.trim_ascii_start();
        let (digits, behind) = rest.split_at_checked(3)?;
        let is_whole = digits[0] != b'0' && matches!(behind.first(), Some(b' ' | b'\r'));
        u16::try_from(number(digits).filter(|_| is_whole)?).ok()
    }

    /// Names and values of the headers in their order, without the white space around a value. A line without a colon is
    /// none, and what a value goes on with on another line does not belong to it.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.headers.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
            let colon = memchr(b':', line)?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }
}

/// Bytes that no server sends. There is no way to find the next operation behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A line is longer than [`LINE_BYTES_MAX`].
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    LongLine,
    /// A line ends without a carriage return.
    #[error("a line without its carriage return")]
    BareLine,
    /// No operation of a server begins so.
    #[error("an operation that no server has")]
    UnknownOperation,
    /// A message without a subject, without a number that should be there, or with something else beside them.
    #[error("a message whose line cannot be read")]
    BadMessage,
    /// A message is larger than [`MESSAGE_BYTES_MAX`].
    #[error("a message of more than {MESSAGE_BYTES_MAX} bytes")]
    LargeMessage,
    /// A message does not end where its size says.
    #[error("a message of another size than it says")]
    WrongSize,
    /// An objection is not UTF-8.
    #[error("an objection that is not UTF-8")]
    BadText,
}

/// Reads the first operation in `bytes`, and how many bytes it takes; `None`: more bytes must come first.
///
/// # Errors
/// [`WireError`]: the connection is of no use any more.
pub fn parse(bytes: &[u8]) -> Result<Option<(ServerOp<'_>, usize)>, WireError> {
    let searched = &bytes[..bytes.len().min(LINE_BYTES_MAX + "\r\n".len())];
    let Some(end) = memchr(b'\n', searched) else {
        return if bytes.len() > LINE_BYTES_MAX + 1 { Err(WireError::LongLine) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(WireError::BareLine)?;
    let begin = end + 1;
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        return message(arguments, false, bytes, begin);
    }
    if let Some(arguments) = line.strip_prefix(b"HMSG ") {
        return message(arguments, true, bytes, begin);
    }
    let op = match line.trim_ascii_end() {
        b"PING" => ServerOp::Ping,
        b"PONG" => ServerOp::Pong,
        b"+OK" => ServerOp::Ok,
        line => {
            if let Some(json) = line.strip_prefix(b"INFO ") {
                ServerOp::Info(json)
            } else if let Some(text) = line.strip_prefix(b"-ERR") {
                let text = std::str::from_utf8(text).map_err(|_| WireError::BadText)?;
                ServerOp::Error(text.trim().trim_matches('\''))
            } else {
                return Err(WireError::UnknownOperation);
            }
        }
    };
    Ok(Some((op, begin)))
}

/// `MSG <subject> <sid> [reply] <bytes>` or `HMSG <subject> <sid> [reply] <header bytes> <bytes>`; what follows is at `begin`.
fn message<'a>(
    arguments: &'a [u8],
    has_headers: bool,
    bytes: &'a [u8],
    begin: usize,
) -> Result<Option<(ServerOp<'a>, usize)>, WireError> {
    let mut fields = arguments.split(|byte| matches!(byte, b' ' | b'\t')).filter(|field| !field.is_empty());
    let subject = fields.next().ok_or(WireError::BadMessage)?;
    let sid = fields.next().and_then(number).ok_or(WireError::BadMessage)?;
    let total = fields.next_back().and_then(number).ok_or(WireError::BadMessage)?;
    let total =
        usize::try_from(total).ok().filter(|total| *total <= MESSAGE_BYTES_MAX).ok_or(WireError::LargeMessage)?;
    let header_bytes = if has_headers { fields.next_back().and_then(number).ok_or(WireError::BadMessage)? } else { 0 };
    let header_bytes =
        usize::try_from(header_bytes).ok().filter(|bytes| *bytes <= total).ok_or(WireError::BadMessage)?;
    let reply = fields.next();
    if fields.next().is_some() {
        return Err(WireError::BadMessage);
    }
    let end = begin + total;
    let Some(body) = bytes.get(begin..end + "\r\n".len()) else { return Ok(None) };
    let content = body.strip_suffix(b"\r\n").ok_or(WireError::WrongSize)?;
    let (headers, payload) = content.split_at(header_bytes);
    Ok(Some((ServerOp::Message(Delivery { subject, sid, reply, headers, payload }), end + "\r\n".len())))
}

/// A decimal number of at most 19 digits, all of which fit.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery<'a>(subject: &'a str, sid: u64, reply: &'a str, headers: &'a str, payload: &'a str) -> ServerOp<'a> {
        let (subject, headers, payload) = (subject.as_bytes(), headers.as_bytes(), payload.as_bytes());
        let reply = (!reply.is_empty()).then_some(reply.as_bytes());
        ServerOp::Message(Delivery { subject, sid, reply, headers, payload })
    }

    #[test]
    fn each_operation_is_read_and_every_part_of_one_waits_for_the_rest() {
        for (text, expected) in [
            ("INFO {\"max_payload\":1048576} \r\n", ServerOp::Info(b"{\"max_payload\":1048576}")),
            ("PING\r\n", ServerOp::Ping),
            ("PONG\r\n", ServerOp::Pong),
            ("+OK\r\n", ServerOp::Ok),
            ("-ERR 'Stale Connection'\r\n", ServerOp::Error("Stale Connection")),
            ("-ERR\r\n", ServerOp::Error("")),
            ("MSG a.b 7 2\r\nok\r\n", delivery("a.b", 7, "", "", "ok")),
            ("MSG a.b 7 reply.to 0\r\n\r\n", delivery("a.b", 7, "reply.to", "", "")),
            ("MSG\u{20}\u{20}a.b \t 7 2\r\n\r\n\r\n", delivery("a.b", 7, "", "", "\r\n")),
            ("HMSG a 18 12 12\r\nNATS/1.0\r\n\r\n\r\n", delivery("a", 18, "", "NATS/1.0\r\n\r\n", "")),
            ("HMSG a 18 reply 12 14\r\nNATS/1.0\r\n\r\nok\r\n", delivery("a", 18, "reply", "NATS/1.0\r\n\r\n", "ok")),
        ] {
            for cut in 0..text.len() {
                assert_eq!(parse(&text.as_bytes()[..cut]), Ok(None), "{text:?} up to {cut}");
            }
            let more = format!("{text}PING\r\n");
            assert_eq!(parse(more.as_bytes()), Ok(Some((expected, text.len()))), "{text:?}");
        }
    }

    #[test]
    fn bytes_that_no_server_sends_are_told_from_those_that_are_not_complete() {
        for (text, expected) in [
            ("PING\n", WireError::BareLine),
            ("\r\n", WireError::UnknownOperation),
            ("PINGS\r\n", WireError::UnknownOperation),
            ("ping\r\n", WireError::UnknownOperation),
            ("PUB a 0\r\n\r\n", WireError::UnknownOperation),
            ("MSG \r\n", WireError::BadMessage),
            ("MSG a\r\n", WireError::BadMessage),
            ("MSG a 7\r\n", WireError::BadMessage),
            ("MSG a 7 -1\r\n", WireError::BadMessage),
            ("MSG a x 1\r\n", WireError::BadMessage),
            ("MSG a 7 b c 1\r\n", WireError::BadMessage),
            ("MSG a 7 99999999999999999999\r\n", WireError::BadMessage),
            ("MSG a 7 67108865\r\n", WireError::LargeMessage),
            ("MSG a 7 1\r\nok\r\n", WireError::WrongSize),
            ("HMSG a 7 1\r\n", WireError::BadMessage),
            ("HMSG a 7 3 2\r\nok\r\n", WireError::BadMessage),
            ("HMSG a 7 b c 1 2\r\n", WireError::BadMessage),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(expected), "{text:?}");
        }
        assert_eq!(parse(b"-ERR '\xff'\r\n"), Err(WireError::BadText));
    }

    #[test]
    fn a_line_may_have_its_most_bytes_and_not_one_more() {
        let longest = format!("INFO {}", "x".repeat(LINE_BYTES_MAX - "INFO ".len()));
        assert_eq!(parse(longest.as_bytes()), Ok(None));
        assert_eq!(parse(format!("{longest}\r").as_bytes()), Ok(None));
        let whole = format!("{longest}\r\n");
        assert_eq!(parse(whole.as_bytes()).map(|read| read.map(|(_, bytes)| bytes)), Ok(Some(whole.len())));
        assert_eq!(parse(format!("{longest}xx").as_bytes()), Err(WireError::LongLine));
        assert_eq!(parse(format!("{longest}x\r\n").as_bytes()), Err(WireError::LongLine));
    }

    #[test]
    fn the_status_stands_in_the_version_line_and_nowhere_else() {
        let status = |headers: &str| {
            Delivery { subject: b"a", sid: 1, reply: None, headers: headers.as_bytes(), payload: b"" }.status()
        };
        assert_eq!(status("NATS/1.0 503\r\n\r\n"), Some(503));
        assert_eq!(status("NATS/1.0 100 Idle Heartbeat\r\n\r\n"), Some(100));
        for headers in [
            "",
            "NATS/1.0\r\n\r\n",
            "NATS/1.0\r\n503: a\r\n\r\n",
            "NATS/1.0 5030\r\n\r\n",
            "NATS/1.0 050\r\n\r\n",
            "503",
        ] {
            assert_eq!(status(headers), None, "{headers:?}");
        }
    }

    #[test]
    fn fields_have_their_values_without_white_space_around_and_lines_without_a_colon_are_none() {
        let headers = b"NATS/1.0 200\r\na: 1 \r\nno field\r\nb:2\r\n folded\r\na:\r\nc: d: e\r\n\r\n";
        let delivery = Delivery { subject: b"a", sid: 1, reply: None, headers, payload: b"x: y" };
        let fields: Vec<(&[u8], &[u8])> = delivery.fields().collect();
        assert_eq!(fields, [(&b"a"[..], &b"1"[..]), (b"b", b"2"), (b"a", b""), (b"c", b"d: e")]);
        for headers in ["", "\n", "NATS/1.0\r\n\r\n", "a: b"] {
            let delivery = Delivery { headers: headers.as_bytes(), ..delivery };
            assert_eq!(delivery.fields().next(), None, "{headers:?}");
        }
    }
}
