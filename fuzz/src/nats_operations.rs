//! Bytes of a server as operations of the NATS protocol.

use jetlinks_bridge::queue::nats::{LINE_BYTES_MAX, MESSAGE_BYTES_MAX, ServerOp, WireError, parse};

/// Every operation in its form for comparison, and why there is none behind them.
type Outcome = (Vec<String>, Option<WireError>);

/// However reads cut the bytes, the same operations come out and the same error ends them; what was read of a message is what
/// its line says.
pub fn check(data: &[u8]) {
    let whole = take(data, data.len().max(1));
    for piece in [1, 2, 3, 7, 64] {
        assert_eq!(take(data, piece), whole, "in pieces of {piece}");
    }
}

fn take(data: &[u8], piece: usize) -> Outcome {
    let (mut unread, mut seen) = (Vec::new(), Vec::new());
    for piece in data.chunks(piece) {
        unread.extend_from_slice(piece);
        loop {
            match parse(&unread) {
                Ok(Some((op, bytes))) => {
                    assert!((1..=unread.len()).contains(&bytes), "more was taken than there is");
                    judge(&op, bytes);
                    seen.push(format!("{op:?}"));
                    unread.drain(..bytes);
                }
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

fn judge(op: &ServerOp<'_>, bytes: usize) {
    let ServerOp::Message(message) = op else {
        assert!(bytes <= LINE_BYTES_MAX + 2);
        return;
    };
    assert!(message.headers.len() + message.payload.len() <= MESSAGE_BYTES_MAX);
    assert!(!message.subject.is_empty() && message.subject.iter().all(|byte| !matches!(byte, b' ' | b'\n')));
    if let Some(status) = message.status() {
        assert!((100..1000).contains(&status) && message.headers.starts_with(b"NATS/1.0"));
    }
    for (name, value) in message.fields() {
        assert!(!name.contains(&b'\n') && !name.contains(&b':') && value == value.trim_ascii());
    }
    let (header_bytes, total) = (message.headers.len(), message.headers.len() + message.payload.len());
    let mut again = b"HMSG ".to_vec();
    again.extend_from_slice(message.subject);
    again.extend_from_slice(format!(" {} ", message.sid).as_bytes());
    if let Some(reply) = message.reply {
        again.extend_from_slice(&[reply, b" "].concat());
    }
    again.extend_from_slice(format!("{header_bytes} {total}\r\n").as_bytes());
    again.extend_from_slice(&[message.headers, message.payload, b"\r\n"].concat());
    // The line may have grown by a few bytes and not fit any more.
    if again.len() <= LINE_BYTES_MAX {
        assert_eq!(parse(&again), Ok(Some((ServerOp::Message(*message), again.len()))));
    }
}
