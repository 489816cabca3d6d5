//! An operator who follows what happens.

use std::io::{BufRead, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// How long a line may take: an empty one comes every 10 s.
const PATIENCE: Duration = Duration::from_secs(60);

/// Empty lines in a row that are waited through: they come after 10 s of silence each.
const EMPTY_MAX: usize = 6;

/// Lines of `/api/trace` or `/api/envelopes`. Dropped, the connection is closed.
pub(crate) struct Following {
    lines: BufReader<TcpStream>,
}

impl Following {
    /// Asks for that path; the status instead where it is not 200.
    pub(crate) fn begin(admin: SocketAddr, path: &str) -> Result<Self, u16> {
        Self::over(Socket::new(Domain::for_address(admin), Type::STREAM, None).expect("a socket"), admin, path)
    }

    /// As [`Following::begin`], of somebody who takes few bytes that he has not asked for.
    pub(crate) fn slowly(admin: SocketAddr, path: &str) -> Result<Self, u16> {
        let socket = Socket::new(Domain::for_address(admin), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket takes options");
        Self::over(socket, admin, path)
    }

    fn over(socket: Socket, admin: SocketAddr, path: &str) -> Result<Self, u16> {
        socket.connect(&admin.into()).expect("the bridge listens");
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a connected socket takes options");
        // Without chunks: their lengths would stand between the lines.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n").expect("the bridge takes the bytes");
        let mut following = Self { lines: BufReader::new(stream) };
        let status = following.line().expect("an answer");
        while following.line().is_some_and(|line| !line.is_empty()) {}
        match status.get(9..12).and_then(|status| status.parse().ok()) {
            Some(200) => Ok(following),
            status => Err(status.unwrap_or_default()),
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line).expect("a line in time");
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next line that is not empty; `None` at the end.
    ///
    /// # Panics
    /// When nothing but empty ones comes.
    pub(crate) fn next(&mut self) -> Option<Value> {
        for _ in 0..EMPTY_MAX {
            let line = self.line()?;
            if !line.is_empty() {
                return Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
            }
        }
        panic!("nothing happens");
    }

    /// Lines up to one of this event, that one included.
    pub(crate) fn until(&mut self, event: &str) -> Vec<Value> {
        let mut lines = Vec::new();
        loop {
            let line = self.next().unwrap_or_else(|| panic!("the end before {event}: {lines:#?}"));
            let is_last = line["event"] == event;
            lines.push(line);
            if is_last {
                return lines;
            }
        }
    }
}
