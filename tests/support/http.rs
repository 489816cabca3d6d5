//! Just enough HTTP to ask a server on loopback.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Header `Content-Type`; empty without one.
    pub(crate) content_type: String,
    /// Body, as text.
    pub(crate) body: String,
}

/// Asks for a path.
pub(crate) fn get(address: SocketAddr, path: &str) -> io::Result<Answer> {
    request(address, "GET", path, "")
}

/// Sends one request without a body and reads the answer to its end; `headers` are whole lines, each ended by CR LF.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &str) -> io::Result<Answer> {
    exchange(address, &format!("{method} {path}"), headers, "")
}

/// Puts a body in the place of what is there.
pub(crate) fn put(address: SocketAddr, path: &str, body: &str) -> io::Result<Answer> {
    exchange(address, &format!("PUT {path}"), &format!("Content-Length: {}\r\n", body.len()), body)
}

/// Sends a body; `headers` as in [`request`].
pub(crate) fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> io::Result<Answer> {
    let headers = format!("Content-Length: {}\r\n{headers}", body.len());
    exchange(address, &format!("POST {path}"), &headers, body)
}

/// Sends one request of any method, with a body that may be empty.
pub(crate) fn send(address: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    exchange(address, &format!("{method} {path}"), &format!("Content-Length: {}\r\n", body.len()), body)
}

fn exchange(address: SocketAddr, line: &str, headers: &str, body: &str) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n{body}")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| io::Error::other("no HTTP answer"))
}

fn parse(text: &str) -> Option<Answer> {
    let (head, rest) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
    let body = if chunked { join_chunks(rest)? } else { rest.to_owned() };
    let content_type = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-type").then(|| value.trim().to_owned())
    });
    Some(Answer { status, content_type: content_type.unwrap_or_default(), body })
}

fn join_chunks(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}
