//! The PROXY protocol, versions 1 and 2: a header in front of a connection with the address of the client behind a TCP
//! balancer.
//!
//! A receiver reads it only where it expects it: whoever can write it can claim any address (HAProxy's specification of
//! the protocol, section 2).

mod v1;
mod v2;

use std::net::SocketAddr;

/// Longest header that is taken, in bytes: what every sender may expect to get through in one segment (specification,
/// section 2.2). One of version 1 has at most 107.
pub const HEADER_BYTES_MAX: usize = 536;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Origin of the connection.
    pub origin: Origin,
    /// Bytes of the header; the connection's own follow.
    pub bytes: usize,
}

/// Origin of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Somebody's behind the proxy, with this address.
    Client(SocketAddr),
    /// The proxy's own, as for a look at the listener's health; or somebody's whose address is none of TCP.
    Proxy,
}

/// Error of bytes that are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyError {
    /// They begin with neither signature.
    Signature,
    /// A header of version 1 breaks the form.
    Line,
    /// A header of version 2 has a command, a family or a transport that does not exist.
    Unassigned,
    /// A header of version 2 is too short for its addresses.
    Short,
    /// The header is longer than [`HEADER_BYTES_MAX`], or one of version 1 than 107 bytes.
    TooLong,
}

/// Reads a header at the front of what came so far; `None`: it is not whole yet.
///
/// Bytes that can be no header are told at the first that shows it, so nobody waits for the rest.
///
/// # Errors
/// [`ProxyError`] says which rule is broken; the connection must be closed then.
pub fn read(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    match bytes.first() {
        None => Ok(None),
        Some(b'P') => v1::read(bytes),
        Some(_) => v2::read(bytes),
    }
}

/// Whether bytes begin with a signature, or are themselves the beginning of one.
fn matches_signature(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(byte, expected)| byte == expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &[u8] = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\xa8\x00\x01\xc0\xa8\x00\x0b\xdc\x04\x01\xbb\x04\0\0";

    #[test]
    fn a_header_of_either_version_is_whole_with_its_last_byte_and_leaves_what_follows() {
        for header in [V1, V2] {
            let whole = Header { origin: Origin::Client("192.168.0.1:56324".parse().unwrap()), bytes: header.len() };
            for end in 0..header.len() {
                assert_eq!(read(&header[..end]), Ok(None), "{end} bytes");
            }
            assert_eq!(read(header), Ok(Some(whole)));
            assert_eq!(read(&[header, b"\x10\x00PROXY \r\n"].concat()), Ok(Some(whole)));
        }
    }

    #[test]
    fn what_can_be_no_header_is_told_at_once() {
        for bytes in
            [&b"\x10"[..], b"GET / HTTP/1.1\r\n", b"PRI", b"PROXX", b"\r\r", b"\r\n\r\n\0\r\nQUIX", b"\0", b"\xff"]
        {
            assert_eq!(read(bytes), Err(ProxyError::Signature), "{bytes:?}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_more_bytes_never_take_a_verdict_back() {
        // Every header with one byte changed to each value that means something anywhere, and cut everywhere.
        for header in [V1, V2, b"PROXY UNKNOWN\r\n", b"PROXY TCP6 ::1 ::2 1 2\r\n"] {
            for at in 0..header.len() {
                for value in [0, 1, 9, 10, 13, 15, 31, 32, 33, 48, 57, 58, 65, 84, 127, 128, 255] {
                    let mut bytes = header.to_vec();
                    bytes[at] = value;
                    let mut result = Ok(None);
                    for end in 0..=bytes.len() {
                        let next = read(&bytes[..end]);
                        if result != Ok(None) {
                            assert_eq!(next, result, "{bytes:?} at {end}");
                        }
                        result = next;
                    }
                }
            }
        }
    }
}
