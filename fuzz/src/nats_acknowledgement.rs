//! Bytes of whoever answers a record, as an acknowledgement of the stream.

use jetlinks_bridge::queue::nats::{Acknowledgement, StreamIdentity};
use serde_json::Value;

/// A record counts as stored only by the word of the own stream, in its domain, with a number and without an error.
pub fn check(data: &[u8]) {
    for domain in [None, Some("hub")] {
        let answer = StreamIdentity::new("S", domain).read_payload(data);
        let Ok(answer) = answer else { continue };
        // In members that nobody reads there may be any bytes.
        let text = String::from_utf8_lossy(data);
        let reply: Value = serde_json::from_str(&text).expect("an answer that counts is JSON");
        assert_eq!(reply["stream"], "S");
        if answer == Acknowledgement::Stored {
            assert_eq!(reply["domain"].as_str(), domain);
            assert!(reply["error"].is_null());
            let number = reply["seq"].as_number().expect("a number").to_string();
            assert!(number.bytes().all(|digit| digit.is_ascii_digit()) && number != "0");
        } else {
            assert!(!reply["error"].is_null());
        }
    }
}
