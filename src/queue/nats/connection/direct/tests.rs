//! The client against a server whose every word the test says.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::super::{Access, ConnectionRole, connect_direct, connected};
use super::*;
use crate::queue::nats::NatsSettings;
use crate::queue::nats::connection::Connection;

const TIMEOUT: Duration = Duration::from_secs(60);

/// An owner with messages that wait, which remembers what came for it.
#[derive(Default)]
struct Owner {
    client: OnceCell<DirectClient>,
    waiting: RefCell<VecDeque<Vec<u8>>>,
    taken: RefCell<Vec<String>>,
    losses: Cell<usize>,
}

impl Traffic for Owner {
    fn take(&self, message: &Delivery<'_>, _now: Instant) {
        self.taken.borrow_mut().push(String::from_utf8_lossy(message.payload).into_owned());
    }

    fn taken_all(&self, _now: Instant) {}

    fn write(&self) {
        let Some(client) = self.client.get() else { return };
        while client.has_room() {
            let Some(next) = self.waiting.borrow_mut().pop_front() else { return };
            client.write(|out| out.extend_from_slice(&next));
        }
    }

    fn lost(&self) {
        self.losses.set(self.losses.get() + 1);
    }
}

struct Server(TcpListener);

/// One connection as the server sees it.
struct Peer(BufReader<TcpStream>);

impl Server {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports"))
    }

    fn url(&self) -> String {
        format!("nats://{}", self.0.local_addr().expect("it is bound"))
    }

    /// Takes a connection and says that; nothing is answered.
    async fn take(&self, words: &str) -> Peer {
        let mut peer = Peer(BufReader::new(self.0.accept().await.expect("somebody connects").0));
        peer.say(words).await;
        peer
    }

    /// Takes a connection and accepts the client.
    async fn accept(&self, info: &str) -> Peer {
        let mut peer = self.take(&format!("INFO {info}\r\n")).await;
        let introduction = peer.line().await;
        assert!(introduction.starts_with("CONNECT {"), "{introduction}");
        assert_eq!(peer.line().await, "PING");
        peer.say("PONG\r\n").await;
        peer
    }
}

impl Peer {
    async fn say(&mut self, words: &str) {
        self.0.write_all(words.as_bytes()).await.expect("the client reads");
    }

    /// The next line, empty at the end.
    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.expect("the client writes text");
        line.trim_end().to_owned()
    }
}

fn client(servers: &[&Server], ping_interval: Duration) -> (Connection<DirectClient>, Rc<Owner>) {
    let mut settings = NatsSettings::new(servers.iter().map(|server| server.url()).collect());
    settings.ping_interval = ping_interval;
    let access = Access::new(&settings).expect("good settings");
    let owner = Rc::new(Owner::default());
    let traffic = Rc::clone(&owner);
    let connection = connect_direct(access, ConnectionRole::Uplink, traffic, |_| ());
    let _set = owner.client.set(connection.client.clone());
    (connection, owner)
}

fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let test = async { tokio::time::timeout(TIMEOUT, test).await.expect("in time") };
    runtime.block_on(LocalSet::new().run_until(test));
}

#[test]
fn a_new_connection_begins_with_its_subscriptions_and_holds_nothing_of_the_one_before() {
    on_one_thread(async {
        let server = Server::start().await;
        let (mut connection, owner) = client(&[&server], TIMEOUT);
        let subject = format!("{}.*", connection.client.traffic_inbox());
        let _acknowledgements = connection.client.subscribe(subject.clone()).await;
        let mut peer = server.accept("{\"max_payload\":1000}").await;
        assert_eq!(peer.line().await, format!("SUB {subject} 2"));
        connected(&mut connection.link).await;
        assert_eq!(connection.client.max_payload(), 1000);
        peer.say(&format!("MSG {subject} 2 2\r\nok\r\nPING\r\n")).await;
        assert_eq!(peer.line().await, "PONG");
        assert_eq!(*owner.taken.borrow(), ["ok"]);

        // More than any socket takes while nobody reads.
        while connection.client.has_room() {
            connection.client.write(|out| out.extend_from_slice(&[b'x'; 64 * 1024]));
            tokio::task::yield_now().await;
        }
        drop(peer);
        let mut peer = server.accept("{\"max_payload\":2000}").await;
        assert_eq!(owner.losses.get(), 1);
        assert_eq!(peer.line().await, format!("SUB {subject} 2"));
        peer.say("PING\r\n").await;
        assert_eq!(peer.line().await, "PONG", "something is left of the connection before");
        assert_eq!((connection.client.connects(), connection.client.max_payload()), (2, 2000));
    });
}

#[test]
fn the_owner_gets_what_comes_on_its_subscriptions_also_after_it_has_ended_them() {
    on_one_thread(async {
        let server = Server::start().await;
        let (mut connection, owner) = client(&[&server], TIMEOUT);
        let client = connection.client.clone();
        let kept = client.subscribe_for_owner(Bytes::from_static(b"a.>"));
        let mut peer = server.accept("{}").await;
        assert_eq!(peer.line().await, format!("SUB a.> {kept}"));
        connected(&mut connection.link).await;
        let ended = client.subscribe_for_owner(Bytes::from_static(b"b.>"));
        let other = client.subscribe("c".to_owned()).await.expect("the client lives");
        client.unsubscribe_for_owner(ended);
        let said = [peer.line().await, peer.line().await, peer.line().await];
        assert_eq!(said, [format!("SUB b.> {ended}"), format!("SUB c {}", other.sid), format!("UNSUB {ended}")]);
        let (sid, gone) = (other.sid, other.sid + 2);
        peer.say(&format!("MSG b.1 {ended} 1\r\nb\r\nMSG c {sid} 1\r\nc\r\nMSG d {gone} 1\r\nd\r\n")).await;
        peer.say(&format!("MSG a.1 {kept} 1\r\na\r\nPING\r\n")).await;
        assert_eq!(peer.line().await, "PONG");
        assert_eq!(*owner.taken.borrow(), ["b", "a"]);

        drop(peer);
        let mut peer = server.accept("{}").await;
        assert_eq!([peer.line().await, peer.line().await], [format!("SUB a.> {kept}"), format!("SUB c {sid}")]);
    });
}

#[test]
fn what_finds_no_room_waits_with_the_owner_and_comes_in_order() {
    on_one_thread(async {
        let server = Server::start().await;
        let (_connection, owner) = client(&[&server], TIMEOUT);
        let lines = (0..100_000).map(|number| format!("line number {number}\r\n").into_bytes());
        owner.waiting.borrow_mut().extend(lines);
        let mut peer = server.accept("{}").await;
        for number in 0..100_000 {
            assert_eq!(peer.line().await, format!("line number {number}"));
        }
    });
}

#[test]
fn a_server_that_answers_no_pings_is_given_up_when_the_third_is_due() {
    on_one_thread(async {
        let server = Server::start().await;
        let (_connection, owner) = client(&[&server], Duration::from_millis(20));
        let mut peer = server.accept("{}").await;
        assert_eq!([peer.line().await, peer.line().await, peer.line().await], ["PING", "PING", ""]);
        let mut peer = server.accept("{}").await;
        assert_eq!(owner.losses.get(), 1);
        for _ in 0..5 {
            assert_eq!(peer.line().await, "PING");
            peer.say("PONG\r\n").await;
        }
        assert_eq!(owner.losses.get(), 1, "a server that answers was given up");
    });
}

#[test]
fn a_server_that_another_one_has_named_is_reached_when_that_is_gone() {
    on_one_thread(async {
        let (first, second) = (Server::start().await, Server::start().await);
        let (mut connection, _) = client(&[&first], TIMEOUT);
        let mut peer = first.accept("{}").await;
        connected(&mut connection.link).await;
        assert_eq!(connection.client.servers().await, 1);
        let address = second.url();
        let address = address.trim_start_matches("nats://");
        peer.say(&format!("INFO {{\"connect_urls\":[\"{address}\",\"not a server\"],\"ldm\":true}}\r\nPING\r\n")).await;
        assert_eq!(peer.line().await, "PONG");
        assert_eq!(connection.client.servers().await, 2);
        drop((peer, first));
        second.accept("{}").await;
    });
}

#[test]
fn what_a_server_says_before_the_handshake_of_tls_ends_the_attempt() {
    on_one_thread(async {
        let server = Server::start().await;
        let _client = client(&[&server], TIMEOUT);
        let mut peer = server.take("INFO {\"tls_required\":true}\r\nMSG a 1 0\r\n\r\n").await;
        let mut said = Vec::new();
        // Whether the socket ends or breaks, nothing came over it.
        let _broken = peer.0.read_to_end(&mut said).await;
        assert!(said.is_empty(), "a handshake has begun: {said:?}");
    });
}

#[test]
fn bytes_that_are_no_operation_end_the_connection_and_a_new_one_is_made() {
    on_one_thread(async {
        let server = Server::start().await;
        let (_connection, owner) = client(&[&server], TIMEOUT);
        let mut peer = server.accept("{}").await;
        peer.say("HTTP/1.1 400 Bad Request\r\n").await;
        server.accept("{}").await;
        assert_eq!(owner.losses.get(), 1);
    });
}

/// A socket that takes a few bytes, then none for a turn.
#[derive(Default)]
struct Slow {
    taken: Vec<u8>,
    is_tired: bool,
}

impl AsyncWrite for Slow {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.is_tired = !self.is_tired;
        if self.is_tired {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes = &bytes[..bytes.len().min(100_000)];
        self.taken.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_socket_that_takes_parts_gets_every_byte_once() {
    let (mut outgoing, mut socket) = (Outgoing::default(), Slow::default());
    let mut cx = Context::from_waker(Waker::noop());
    let mut written = Vec::new();
    for turn in 0..50_u8 {
        if outgoing.has_room() {
            let more = vec![turn; 90_000];
            outgoing.bytes().extend_from_slice(&more);
            written.extend(more);
        }
        let _some = outgoing.poll_write(Pin::new(&mut socket), &mut cx);
    }
    while !outgoing.is_empty() {
        assert!(outgoing.poll_flush(Pin::new(&mut socket), &mut cx).is_pending());
        let _some = outgoing.poll_write(Pin::new(&mut socket), &mut cx);
    }
    assert!(outgoing.poll_flush(Pin::new(&mut socket), &mut cx).is_ready());
    assert!(socket.taken == written, "{} bytes of {}", socket.taken.len(), written.len());
}
