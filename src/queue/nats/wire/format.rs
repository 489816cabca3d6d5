//! Operations of a client, written behind what is in a buffer.
//!
//! Subjects come from whoever knows that they are some: [`is_subject`] tells.

/// A message with headers.
#[derive(Debug, Clone, Copy)]
pub(in crate::queue::nats) struct Publish<'a> {
    /// Subject.
    pub(in crate::queue::nats) subject: &'a [u8],
    /// Reply subject, in two parts: what all have in common, and the rest. `None` where no answer is wanted.
    pub(in crate::queue::nats) reply: Option<(&'a [u8], &'a [u8])>,
    /// Headers with their version line and their last empty line.
    pub(in crate::queue::nats) headers: &'a [u8],
    pub(in crate::queue::nats) payload: &'a [u8],
}

/// Bytes of a message beside its subjects, headers and payload: the verb, spaces, two sizes, two ends of lines.
const PUBLISH_BYTES: usize = 64;

/// Whether the bytes can be written as a subject, and end no line.
pub(in crate::queue::nats) fn is_subject(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| *byte > b' ' && *byte != 0x7f)
}

/// The JSON of CONNECT, without an end of line.
pub(in crate::queue::nats) fn connect(out: &mut Vec<u8>, json: &[u8]) {
    line(out, &[b"CONNECT ", json]);
}

pub(in crate::queue::nats) fn ping(out: &mut Vec<u8>) {
    line(out, &[b"PING"]);
}

pub(in crate::queue::nats) fn pong(out: &mut Vec<u8>) {
    line(out, &[b"PONG"]);
}

pub(in crate::queue::nats) fn subscribe(out: &mut Vec<u8>, subject: &[u8], sid: u64) {
    line(out, &[b"SUB ", subject, b" ", Decimal::of(sid).digits()]);
}

pub(in crate::queue::nats) fn unsubscribe(out: &mut Vec<u8>, sid: u64) {
    line(out, &[b"UNSUB ", Decimal::of(sid).digits()]);
}

/// A message without headers.
pub(in crate::queue::nats) fn publish(out: &mut Vec<u8>, subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) {
    let space: &[u8] = if reply.is_some() { b" " } else { b"" };
    let bytes = Decimal::of(payload.len() as u64);
    line(out, &[b"PUB ", subject, space, reply.unwrap_or_default(), b" ", bytes.digits()]);
    line(out, &[payload]);
}

/// A message with headers.
pub(in crate::queue::nats) fn publish_with_headers(out: &mut Vec<u8>, message: &Publish<'_>) {
    let Publish { subject, reply, headers, payload } = message;
    let (space, (reply, rest)): (&[u8], _) = reply.map_or((b"", Default::default()), |reply| (b" ", reply));
    out.reserve(PUBLISH_BYTES + subject.len() + reply.len() + rest.len() + headers.len() + payload.len());
    // On no machine is a length longer.
    let (header_bytes, bytes) = (headers.len() as u64, (headers.len() + payload.len()) as u64);
    for part in [b"HPUB ", *subject, space, reply, rest, b" ", Decimal::of(header_bytes).digits(), b" "] {
        out.extend_from_slice(part);
    }
    line(out, &[Decimal::of(bytes).digits()]);
    line(out, &[headers, payload]);
}

fn line(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(b"\r\n");
}

/// The digits of a number.
struct Decimal {
    bytes: [u8; 20],
    begin: usize,
}

impl Decimal {
    fn of(mut number: u64) -> Self {
        let mut decimal = Self { bytes: [b'0'; 20], begin: 20 };
        loop {
            decimal.begin -= 1;
            // Below 10.
            decimal.bytes[decimal.begin] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return decimal;
            }
        }
    }

    fn digits(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = b"before ".to_vec();
        write(&mut out);
        String::from_utf8(out).expect("operations with ASCII are ASCII").replacen("before ", "", 1)
    }

    #[test]
    fn operations_stand_behind_what_was_there_as_the_protocol_writes_them() {
        assert_eq!(written(|out| connect(out, b"{}")), "CONNECT {}\r\n");
        assert_eq!(written(ping), "PING\r\n");
        assert_eq!(written(pong), "PONG\r\n");
        assert_eq!(written(|out| subscribe(out, b"a.*", 17)), "SUB a.* 17\r\n");
        assert_eq!(written(|out| unsubscribe(out, 0)), "UNSUB 0\r\n");
        assert_eq!(written(|out| publish(out, b"a", None, b"ok")), "PUB a 2\r\nok\r\n");
        assert_eq!(written(|out| publish(out, b"a", Some(b"r.1"), b"")), "PUB a r.1 0\r\n\r\n");
        let headers = b"NATS/1.0\r\na: b\r\n\r\n";
        let message = Publish { subject: b"a.b", reply: Some((b"r.", b"1")), headers, payload: b"0123456789" };
        let expected = "HPUB a.b r.1 18 28\r\nNATS/1.0\r\na: b\r\n\r\n0123456789\r\n";
        assert_eq!(written(|out| publish_with_headers(out, &message)), expected);
    }

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 9, 10, 99, 100, 1_048_576, u64::MAX] {
            assert_eq!(Decimal::of(number).digits(), number.to_string().as_bytes());
        }
    }

    #[test]
    fn what_would_end_a_subject_is_none() {
        assert!(is_subject("jetlinks.device.p.d%20.温".as_bytes()));
        for wrong in ["", "a b", "a\r\nPING", "a\tb", "a\0", "a\u{7f}"] {
            assert!(!is_subject(wrong.as_bytes()), "{wrong:?}");
        }
    }
}
