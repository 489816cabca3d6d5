//! Version 1: one line of text (specification, section 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, Origin, ProxyError, matches_signature};

const SIGNATURE: &[u8] = b"PROXY ";

/// Longest line, with its end.
const LINE_BYTES_MAX: usize = 107;

pub(super) fn read(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    if !matches_signature(bytes, SIGNATURE) {
        return Err(ProxyError::Signature);
    }
    let window = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    // Neither byte can stand inside a line, so the first of either ends it or breaks it.
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if window.len() < LINE_BYTES_MAX { Ok(None) } else { Err(ProxyError::TooLong) };
    };
    match (window[end], window.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) if window.len() < LINE_BYTES_MAX => return Ok(None),
        (b'\r', None) => return Err(ProxyError::TooLong),
        _ => return Err(ProxyError::Line),
    }
    let line = window.get(SIGNATURE.len()..end).ok_or(ProxyError::Line)?;
    let line = str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let origin = read_line(line).ok_or(ProxyError::Line)?;
    Ok(Some(Header { origin, bytes: end + 2 }))
}

/// Reads the line behind `PROXY `.
fn read_line(line: &str) -> Option<Origin> {
    let (protocol, rest) = line.split_once(' ').unwrap_or((line, ""));
    let parse: fn(&str) -> Option<IpAddr> = match protocol {
        // Whatever else is in the line does not count.
        "UNKNOWN" => return Some(Origin::Proxy),
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let mut parts = rest.split(' ');
    let mut next = || parts.next();
    let (source, destination) = (parse(next()?)?, parse(next()?)?);
    let (source_port, destination_port) = (port(next()?)?, port(next()?)?);
    // The destination has to be right too: a line with a broken half is no line of a proxy.
    let _destination = SocketAddr::new(destination, destination_port);
    next().is_none().then(|| Origin::Client(SocketAddr::new(source, source_port)))
}

/// Decimal digits without a leading zero.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(line: &str) -> Result<Option<Origin>, ProxyError> {
        read(line.as_bytes()).map(|header| {
            header.map(|header| {
                assert_eq!(header.bytes, line.len());
                header.origin
            })
        })
    }

    fn client(address: &str) -> Result<Option<Origin>, ProxyError> {
        Ok(Some(Origin::Client(address.parse().unwrap())))
    }

    #[test]
    fn the_longest_lines_of_the_specification_are_read() {
        let longest4 = "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
        assert_eq!((origin(longest4), longest4.len()), (client("255.255.255.255:65535"), 56));
        let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest6 = format!("PROXY TCP6 {address} {address} 65535 65535\r\n");
        assert_eq!((origin(&longest6), longest6.len()), (client(&format!("[{address}]:65535")), 104));
        assert_eq!(origin("PROXY UNKNOWN\r\n"), Ok(Some(Origin::Proxy)));
        let worst = format!("PROXY UNKNOWN {address} {address} 65535 65535\r\n");
        assert_eq!((origin(&worst), worst.len()), (Ok(Some(Origin::Proxy)), LINE_BYTES_MAX));
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        assert_eq!(origin("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"), client("192.168.0.1:56324"));
        assert_eq!(origin("PROXY TCP6 2001:DB8::1 ::1 0 1883\r\n"), client("[2001:db8::1]:0"));
        assert_eq!(origin("PROXY UNKNOWN anything at all\r\n"), Ok(Some(Origin::Proxy)));
    }

    #[test]
    fn a_line_that_breaks_the_form_is_refused() {
        for line in [
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
            "PROXY TCP4 1.2.3.4  1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
            "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 x\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx",
            "PROXY\r\n",
        ] {
            let expected = if line.starts_with("PROXY ") { ProxyError::Line } else { ProxyError::Signature };
            assert_eq!(origin(line), Err(expected), "{line:?}");
        }
        assert_eq!(read(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \xff\r\n"), Err(ProxyError::Line));
    }

    #[test]
    fn a_line_has_107_bytes_at_most() {
        let fill = |bytes: usize| format!("PROXY UNKNOWN {}", "x".repeat(bytes - 14));
        assert_eq!(read(fill(106).as_bytes()), Ok(None));
        assert_eq!(read(fill(107).as_bytes()), Err(ProxyError::TooLong));
        assert_eq!(read(format!("{}\r\n", fill(105)).as_bytes()).map(|header| header.is_some()), Ok(true));
        assert_eq!(read(format!("{}\r\n", fill(106)).as_bytes()), Err(ProxyError::TooLong));
    }
}
