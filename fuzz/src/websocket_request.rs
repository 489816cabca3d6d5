//! Bytes of a client as the request for a WebSocket.

use jetlinks_bridge::transport::Upgrade;
use jetlinks_bridge::transport::upgrade::{Answer, REQUEST_BYTES_MAX, answer};

/// Reads that are tried, from the end.
const CUTS: usize = 16;

const ORIGIN: &str = "https://devices.example";

/// However reads cut a request, its answer is the same, and nothing of the client's is in it. A request that is granted
/// has no body, and its page, if it is of one, an origin that is granted.
pub fn check(data: &[u8]) {
    let data = &data[..data.len().min(REQUEST_BYTES_MAX)];
    for origins in [Box::default(), Box::from([Box::from(ORIGIN)])] {
        let granted = Upgrade { path: "/mqtt".into(), origins };
        let whole = answer(&granted, data);
        for end in data.len().saturating_sub(CUTS)..data.len() {
            let early = answer(&granted, &data[..end]);
            assert!(early == Answer::Incomplete || early == whole, "an answer was taken back");
        }
        match whole {
            Answer::Incomplete => assert!(data.len() < REQUEST_BYTES_MAX, "more is waited for than a request may have"),
            Answer::Agreed { used, text } => {
                request(&data[..used], !granted.origins.is_empty());
                assert!(text.starts_with(b"HTTP/1.1 101 "));
                headers(&text);
            }
            Answer::Refused { text } => {
                assert!(text.starts_with(b"HTTP/1.1 4"));
                headers(&text);
            }
        }
    }
}

fn request(text: &[u8], has_origins: bool) {
    assert!(text.starts_with(b"GET /mqtt"));
    for line in text.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii());
        assert!(!matches!(&*name, b"content-length" | b"transfer-encoding"), "granted with a body");
        let is_foreign = name == b"origin" && !value.eq_ignore_ascii_case(ORIGIN.as_bytes());
        assert!(!has_origins || !is_foreign, "granted to a page of another origin");
    }
}

fn headers(answer: &[u8]) {
    const KNOWN: [&str; 7] = [
        "allow",
        "connection",
        "content-length",
        "sec-websocket-accept",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
    ];
    let text = std::str::from_utf8(answer).expect("an answer is text").to_ascii_lowercase();
    assert!(text.ends_with("\r\n\r\n") && text.matches("\r\n\r\n").count() == 1);
    for line in text.trim_end().lines().skip(1) {
        let name = line.split(':').next().expect("a first part");
        assert!(KNOWN.contains(&name), "{line}");
    }
}
