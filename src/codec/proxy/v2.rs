//! Version 2: binary (specification, section 2.2).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{HEADER_BYTES_MAX, Header, Origin, ProxyError, matches_signature};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version with command, family with transport, and the length of the rest.
const PREFIX_BYTES: usize = 16;

pub(super) fn read(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    if !matches_signature(bytes, SIGNATURE) {
        return Err(ProxyError::Signature);
    }
    let is_local = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(ProxyError::Unassigned),
    };
    let Some(&family) = bytes.get(13) else { return Ok(None) };
    // Of the proxy's own connection nothing is said that counts.
    if !is_local && (family >> 4 > 3 || family & 0x0F > 2) {
        return Err(ProxyError::Unassigned);
    }
    let Some(prefix) = bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let length = PREFIX_BYTES + usize::from(u16::from_be_bytes([prefix[14], prefix[15]]));
    if length > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let needed = match family {
        _ if is_local => 0,
        0x11 => 12,
        0x21 => 36,
        _ => 0,
    };
    if length < PREFIX_BYTES + needed {
        return Err(ProxyError::Short);
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    // What follows the addresses are extensions, none of which is needed.
    let origin = match (is_local, family) {
        (false, 0x11) => inet(&header[PREFIX_BYTES..]),
        (false, 0x21) => inet6(&header[PREFIX_BYTES..]),
        _ => Some(Origin::Proxy),
    };
    Ok(Some(Header { origin: origin.ok_or(ProxyError::Short)?, bytes: length }))
}

/// Source and destination address, source and destination port.
fn inet(block: &[u8]) -> Option<Origin> {
    let source = Ipv4Addr::from(*block.first_chunk::<4>()?);
    let port = u16::from_be_bytes(*block.get(8..)?.first_chunk::<2>()?);
    Some(Origin::Client(SocketAddr::from((source, port))))
}

fn inet6(block: &[u8]) -> Option<Origin> {
    let source = Ipv6Addr::from(*block.first_chunk::<16>()?);
    let port = u16::from_be_bytes(*block.get(32..)?.first_chunk::<2>()?);
    Some(Origin::Client(SocketAddr::from((source, port))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn origin(command: u8, family: u8, rest: &[u8]) -> Result<Origin, ProxyError> {
        let bytes = header(command, family, rest);
        let read = read(&bytes).map(|header| header.expect("all bytes are there"));
        assert!(read.is_err() || read.is_ok_and(|header| header.bytes == bytes.len()));
        read.map(|header| header.origin)
    }

    const INET: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0x07, 0x5b];

    fn inet6_block() -> Vec<u8> {
        let source = "2001:db8::7".parse::<Ipv6Addr>().unwrap().octets();
        [&source[..], &[0; 16], &[0xff, 0xff, 0x07, 0x5b]].concat()
    }

    #[test]
    fn the_source_is_read_and_extensions_are_passed_over() {
        assert_eq!(origin(0x21, 0x11, &INET), Ok(Origin::Client("10.0.0.1:4660".parse().unwrap())));
        assert_eq!(origin(0x21, 0x21, &inet6_block()), Ok(Origin::Client("[2001:db8::7]:65535".parse().unwrap())));
        // PP2_TYPE_AUTHORITY (0x02) and PP2_TYPE_NOOP (0x04).
        let extended = [&INET[..], b"\x02\0\x09localhost\x04\0\x01x"].concat();
        assert_eq!(origin(0x21, 0x11, &extended), Ok(Origin::Client("10.0.0.1:4660".parse().unwrap())));
    }

    #[test]
    fn a_connection_of_the_proxy_itself_or_without_an_address_of_tcp_stays_its_own() {
        for (command, family, rest) in [
            (0x20, 0x00, &[][..]),
            (0x20, 0x11, &INET),
            (0x20, 0x11, &[]),
            (0x20, 0xff, b"anything"),
            (0x21, 0x00, b"anything"),
            (0x21, 0x12, &INET),
            (0x21, 0x22, &[]),
            (0x21, 0x31, &[0; 216]),
        ] {
            assert_eq!(origin(command, family, rest), Ok(Origin::Proxy), "{command:x} {family:x}");
        }
    }

    #[test]
    fn what_is_not_assigned_is_refused_before_the_rest_is_waited_for() {
        for (command, family) in [(0x11, 0x11), (0x22, 0x11), (0x2f, 0x11), (0x31, 0x11), (0x21, 0x13), (0x21, 0x41)] {
            let bytes = header(command, family, &INET);
            assert_eq!(read(&bytes[..14]), Err(ProxyError::Unassigned), "{command:x} {family:x}");
        }
    }

    #[test]
    fn a_length_that_does_not_fit_is_refused_before_the_rest_is_waited_for() {
        assert_eq!(origin(0x21, 0x11, &INET[..11]), Err(ProxyError::Short));
        assert_eq!(origin(0x21, 0x21, &inet6_block()[..35]), Err(ProxyError::Short));
        assert_eq!(origin(0x21, 0x11, &[]), Err(ProxyError::Short));
        let longest = [&INET[..], &[0; HEADER_BYTES_MAX - PREFIX_BYTES - 12]].concat();
        assert!(origin(0x21, 0x11, &longest).is_ok());
        let longer = header(0x20, 0x00, &[&longest[..], &[0]].concat());
        assert_eq!(read(&longer[..PREFIX_BYTES]), Err(ProxyError::TooLong));
    }
}
