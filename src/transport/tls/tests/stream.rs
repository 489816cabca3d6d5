//! The stream, against the client of tokio-rustls.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use super::*;

/// For a test to come to its end, most of which is processor time.
const TIMEOUT: Duration = Duration::from_secs(60);

type Ends = (client::TlsStream<DuplexStream>, TlsStream<DuplexStream>);

/// Both ends of a connection that takes so many bytes before they are read.
async fn connected(version: &'static SupportedProtocolVersion, room: usize) -> Ends {
    let world = World::new();
    let (near, far) = duplex(room);
    let connector = TlsConnector::from(world.client(version, None));
    let server = world.server(None, &["secret"]);
    let (client, server) =
        tokio::join!(connector.connect("localhost".try_into().unwrap(), near), TlsStream::accept(server.config(), far));
    (client.unwrap(), server.unwrap())
}

fn run<F: Future<Output = ()>>(test: impl Fn(&'static SupportedProtocolVersion) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for version in VERSIONS {
        let ended = runtime.block_on(async { timeout(TIMEOUT, test(version)).await });
        assert!(ended.is_ok(), "{version:?}: something is waited for that does not come");
    }
}

/// Bytes that differ from place to place.
fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 251 + at) as u8).collect()
}

#[test]
fn text_of_any_length_comes_through_whole_in_both_directions() {
    run(|version| async move {
        // Less than a record fits in between, so records come in parts and are sent in parts.
        for room in [64, 1_000, 100_000] {
            let (mut client, mut server) = connected(version, room).await;
            for bytes in [1, 100, 16_384, 16_385, 100_000] {
                let sent = text(bytes);
                let (mut heard, mut answer) = (vec![0; bytes], vec![0; bytes]);
                let ask = async {
                    client.write_all(&sent).await.unwrap();
                    client.flush().await.unwrap();
                    client.read_exact(&mut answer).await.unwrap();
                };
                let reply = async {
                    server.read_exact(&mut heard).await.unwrap();
                    server.write_all(&heard).await.unwrap();
                    server.flush().await.unwrap();
                };
                tokio::join!(ask, reply);
                assert!(answer == sent, "{version:?}: {bytes} bytes, room for {room}");
            }
            assert_eq!(server.held_bytes(), 0, "{version:?}: it is idle");
        }
    });
}

#[test]
fn a_reader_with_little_room_gets_everything_in_order() {
    run(|version| async move {
        let (mut client, mut server) = connected(version, 100_000).await;
        let sent = text(40_000);
        client.write_all(&sent).await.unwrap();
        client.flush().await.unwrap();
        let mut heard = Vec::new();
        while heard.len() < sent.len() {
            let mut part = [0; 77];
            let bytes = server.read(&mut part).await.unwrap();
            heard.extend_from_slice(&part[..bytes]);
        }
        assert!(heard == sent, "{version:?}");
        assert_eq!(server.held_bytes(), 0);
    });
}

#[test]
fn the_end_is_an_end_when_the_client_says_so_and_an_error_otherwise() {
    run(|version| async move {
        let (mut client, mut server) = connected(version, 1_000).await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        let mut heard = Vec::new();
        assert_eq!(server.read_to_end(&mut heard).await.unwrap(), 4);
        assert_eq!(heard, b"last");

        let (client, mut server) = connected(version, 1_000).await;
        drop(client);
        let error = server.read(&mut [0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{version:?}");

        let (mut client, mut server) = connected(version, 1_000).await;
        server.write_all(b"last").await.unwrap();
        server.shutdown().await.unwrap();
        let mut heard = Vec::new();
        assert_eq!(client.read_to_end(&mut heard).await.unwrap(), 4, "{version:?}");
    });
}

#[test]
fn a_client_that_does_not_read_has_a_bound_and_loses_nothing() {
    run(|version| async move {
        let (mut client, mut server) = connected(version, 1_000).await;
        let mut nobody = Context::from_waker(Waker::noop());
        let all = text(100_000);
        let mut sent = 0;
        while let Poll::Ready(taken) = Pin::new(&mut server).poll_write(&mut nobody, &all[sent..]) {
            sent += taken.unwrap();
        }
        assert!(server.has_unsent() && sent < 20_000, "{version:?}: {sent} bytes were taken");
        assert!(server.held_bytes() < 20_000, "{version:?}: {} bytes are held", server.held_bytes());
        let rest = async {
            server.write_all(&all[sent..]).await.unwrap();
            server.flush().await.unwrap();
        };
        let mut heard = vec![0; all.len()];
        let (heard_all, ()) = tokio::join!(client.read_exact(&mut heard), rest);
        heard_all.unwrap();
        assert!(heard == all, "{version:?}");
        assert_eq!((server.has_unsent(), server.held_bytes()), (false, 0));
    });
}

#[test]
fn what_is_no_record_is_an_error_and_the_client_is_told() {
    run(|version| async move {
        let (client, mut server) = connected(version, 1_000).await;
        let (mut below, mut session) = client.into_inner();
        below
            .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20])
            .await
            .unwrap();
        let error = server.read(&mut [0; 16]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{version:?}");
        let mut told = [0; 256];
        let bytes = below.read(&mut told).await.unwrap();
        session.read_tls(&mut &told[..bytes]).unwrap();
        // The ticket of 1.3 comes before it.
        let mut alert = session.process_new_packets();
        if alert.is_ok() {
            let bytes = below.read(&mut told).await.unwrap();
            session.read_tls(&mut &told[..bytes]).unwrap();
            alert = session.process_new_packets();
        }
        assert!(alert.unwrap_err().to_string().contains("BadRecordMac"), "{version:?}");
    });
}

#[test]
fn parts_that_are_written_together_are_one_record() {
    run(|version| async move {
        let (mut client, mut server) = connected(version, 1_000).await;
        let parts = [io::IoSlice::new(b"head"), io::IoSlice::new(b"body")];
        let written = poll_fn(|cx| Pin::new(&mut server).poll_write_vectored(cx, &parts)).await.unwrap();
        assert_eq!(written, 8);
        let mut heard = [0; 16];
        let mut buffer = ReadBuf::new(&mut heard);
        poll_fn(|cx| Pin::new(&mut client).poll_read(cx, &mut buffer)).await.unwrap();
        assert_eq!(buffer.filled(), b"headbody", "{version:?}");
    });
}
