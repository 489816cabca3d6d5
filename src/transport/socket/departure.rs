//! Whether a client has left before its CONNECT was looked at.
#![expect(
    unsafe_code,
    reason = "looks at bytes without taking them, which the runtime does only once it knows of them"
)]

use std::os::fd::AsRawFd as _;

use tokio::net::TcpStream;

use super::counters;
use crate::codec::mqtt;
use crate::protocol::limit::Limits;

/// States of a connection (RFC 9293, section 3.3.2) whose peer has closed it while this side has not: with a reset, or in good
/// order. The numbers are those of Linux.
const PEER_CLOSED: [u8; 2] = [7, 8];

/// Whether the peer of a connection has closed it, be there bytes before that or not.
pub fn has_peer_closed(socket: &TcpStream) -> bool {
    counters::tcp_info(socket).is_some_and(|(info, _)| PEER_CLOSED.contains(&info.tcpi_state))
}

/// Whether a client without TLS and WebSocket has closed its connection and waits for nothing; `bytes` were read from it. A
/// client need not wait for CONNACK (MQTT 3.1.1, section 3.1.4): one that has sent messages behind its CONNECT is heard
/// although it has closed.
pub fn has_left(socket: &TcpStream, bytes: &[u8]) -> bool {
    has_peer_closed(socket) && !has_more_than_connect(socket, bytes)
}

fn has_more_than_connect(socket: &TcpStream, bytes: &[u8]) -> bool {
    let mut unread = [0; Limits::FREE_BYTES];
    let unread = peek(socket, &mut unread);
    if unread.len() == Limits::FREE_BYTES {
        return true;
    }
    let all = [bytes, unread].concat();
    mqtt::frame(&all).ok().flatten().is_some_and(|frame| frame.total_bytes() < all.len())
}

/// The bytes that were not read yet, as far as there is room for them.
fn peek<'b>(socket: &TcpStream, into: &'b mut [u8]) -> &'b [u8] {
    // SAFETY: the descriptor is open while the socket is borrowed, and the system writes no more than the length of `into`.
    let read = unsafe {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), flags)
    };
    // A negative number is an error: there is nothing.
    into.get(..usize::try_from(read).unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const CONNECT: &[u8] = &[0x10, 3, 1, 2, 3];
    const PINGREQ: &[u8] = &[0xc0, 0];

    /// A server's end whose client has sent these bytes and `closes`.
    async fn after(sent: &[u8], closes: bool) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.write_all(sent).await.unwrap();
        if closes {
            client.shutdown().await.unwrap();
            while !has_peer_closed(&server) {
                tokio::task::yield_now().await;
            }
        }
        (server, client)
    }

    #[tokio::test]
    async fn a_client_that_has_closed_behind_its_connect_has_left_and_one_that_has_sent_more_has_not() {
        let more = [CONNECT, PINGREQ].concat();
        let cases: [(&[u8], bool, bool); 7] = [
            (b"", true, true),
            (CONNECT, true, true),
            (&CONNECT[..3], true, true),
            (&more, true, false),
            (&[0x10; Limits::FREE_BYTES], true, false),
            (CONNECT, false, false),
            (&more, false, false),
        ];
        for (sent, closes, left) in cases {
            let (server, _client) = after(sent, closes).await;
            assert_eq!(has_left(&server, b""), left, "{} bytes, closes: {closes}", sent.len());
        }
        let (server, _client) = after(PINGREQ, true).await;
        assert!(!has_left(&server, CONNECT), "its CONNECT was read before");
        let (server, _client) = after(b"", true).await;
        assert!(has_left(&server, CONNECT) && !has_left(&server, &more));
    }

    #[tokio::test]
    async fn a_client_that_has_reset_its_connection_has_left() {
        let (server, client) = after(CONNECT, false).await;
        socket2::SockRef::from(&client).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(client);
        while !has_peer_closed(&server) {
            tokio::task::yield_now().await;
        }
        assert!(has_left(&server, b""));
    }
}
