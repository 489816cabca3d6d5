//! Bytes of a peer as a PROXY protocol header.

use jetlinks_bridge::codec::proxy::{HEADER_BYTES_MAX, read};

/// Holds the verdict about all bytes to those about their beginnings: however reads cut a header, its end is found as
/// soon as it can be, and a verdict is never taken back.
pub fn check(data: &[u8]) {
    let mut verdict = Ok(None);
    for end in 0..=data.len().min(HEADER_BYTES_MAX + 1) {
        let next = read(&data[..end]);
        if verdict == Ok(None) {
            if let Ok(Some(header)) = next {
                assert_eq!(header.bytes, end, "the header was whole before");
            }
            verdict = next;
        } else {
            assert_eq!(next, verdict);
        }
    }
    assert_eq!(read(data), verdict);
    assert!(data.len() <= HEADER_BYTES_MAX || verdict != Ok(None), "more is waited for than a header may have");
}
