//! A model of nats-server with one stream. As its seed says, it breaks connections at any byte, in either direction, and
//! loses acknowledgements or refuses records.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;

use jetlinks_bridge::protocol::random::Random;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const STREAM_INFO: &str = r#"{"config":{"name":"JETLINKS_DEVICE","subjects":["jetlinks.device.>","jetlinks.rejected.>","jetlinks.bridge.>"]},"state":{}}"#;

const REFUSAL: &str = r#"{"error":{"code":503,"err_code":10023,"description":"insufficient resources"},"stream":"JETLINKS_DEVICE","seq":0}"#;

/// How many of 1,000 acknowledgements are lost, and as many records are refused, while there are faults.
const LOST_OF_1000: u64 = 1;

/// See the module.
pub(crate) struct Model {
    random: RefCell<Random>,
    url: String,
    /// Connections that are still to break. Behind them everything is well.
    breaks: Cell<usize>,
    connections: Cell<usize>,
    sequence: Cell<u64>,
    /// Payloads of device messages, in the order in which the stream took them.
    stored: RefCell<Vec<Vec<u8>>>,
}

impl Model {
    /// A server of which that many connections break, on the calling thread, inside a `LocalSet`.
    pub(crate) async fn start(seed: u64, breaks: usize) -> Rc<Self> {
        let socket = TcpSocket::new_v4().expect("there are sockets");
        // Small, so that a part of the records still waits in the client when a connection breaks.
        socket.set_recv_buffer_size(4096).expect("a size that is allowed");
        socket.bind(([127, 0, 0, 1], 0).into()).expect("loopback has ports");
        let listener = socket.listen(16).expect("it is bound");
        let model = Rc::new(Self {
            random: RefCell::new(Random::new(u128::from(seed))),
            url: format!("nats://{}", listener.local_addr().expect("it is bound")),
            breaks: Cell::new(breaks),
            connections: Cell::new(0),
            sequence: Cell::new(0),
            stored: RefCell::default(),
        });
        let serving = Rc::clone(&model);
        tokio::task::spawn_local(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("connections come");
                serving.connections.set(serving.connections.get() + 1);
                // One by one: a client has one connection.
                let _broken = Peer::new(&serving, socket).serve().await;
            }
        });
        model
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// Connections until now.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    pub(crate) fn stored(&self) -> Vec<Vec<u8>> {
        self.stored.borrow().clone()
    }

    fn draw(&self, bound: u64) -> u64 {
        self.random.borrow_mut().below(bound)
    }

    /// The answer of the stream to a record, unless it is lost.
    fn take(&self, subject: &str, payload: &[u8]) -> Option<String> {
        let fault = if self.breaks.get() > 0 { self.draw(1000) } else { u64::MAX };
        if (LOST_OF_1000..2 * LOST_OF_1000).contains(&fault) {
            return Some(REFUSAL.to_owned());
        }
        self.sequence.set(self.sequence.get() + 1);
        if subject.starts_with("jetlinks.device.") {
            self.stored.borrow_mut().push(payload.to_vec());
        }
        (fault >= LOST_OF_1000).then(|| format!(r#"{{"stream":"JETLINKS_DEVICE","seq":{}}}"#, self.sequence.get()))
    }
}

/// One connection.
struct Peer<'a> {
    model: &'a Model,
    socket: TcpStream,
    read: Vec<u8>,
    answers: Vec<u8>,
    subscriptions: Vec<(String, String)>,
    /// Bytes until the connection breaks.
    readable: usize,
    writable: usize,
}

impl<'a> Peer<'a> {
    fn new(model: &'a Model, socket: TcpStream) -> Self {
        let mut budget = [usize::MAX; 2];
        if model.breaks.get() > 0 {
            model.breaks.set(model.breaks.get() - 1);
            // As many connections break while they are set up as under load.
            let bound = if model.draw(3) == 0 { 2_000 } else { 400_000 };
            let direction = usize::from(model.draw(2) == 0);
            budget[direction] = usize::try_from(model.draw(bound)).expect("a small number");
        }
        let (read, answers, subscriptions) = (Vec::new(), Vec::new(), Vec::new());
        Self { model, socket, read, answers, subscriptions, readable: budget[0], writable: budget[1] }
    }

    /// Serves until the connection breaks, for whichever reason.
    async fn serve(mut self) -> io::Result<()> {
        self.answers.extend_from_slice(b"INFO {\"max_payload\":1048576,\"headers\":true}\r\n");
        loop {
            self.write().await?;
            let mut piece = [0; 16 * 1024];
            let end = self.readable.min(piece.len());
            let length = self.socket.read(&mut piece[..end]).await?;
            if length == 0 {
                // Also where no more may be read.
                return Ok(());
            }
            self.readable -= length;
            self.read.extend_from_slice(&piece[..length]);
            while self.take() {}
            if self.readable == 0 && self.model.draw(2) == 0 {
                // What it has stored stays unacknowledged.
                return Ok(());
            }
        }
    }

    /// Writes the answers, in pieces that end anywhere.
    async fn write(&mut self) -> io::Result<()> {
        let answers = std::mem::take(&mut self.answers);
        let allowed = &answers[..answers.len().min(self.writable)];
        let cut = usize::try_from(self.model.draw(allowed.len() as u64 + 1)).expect("below a length");
        for piece in [&allowed[..cut], &allowed[cut..]] {
            self.socket.write_all(piece).await?;
            tokio::task::yield_now().await;
        }
        self.writable -= allowed.len();
        if allowed.len() < answers.len() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Takes the first operation of what was read, where it is complete.
    fn take(&mut self) -> bool {
        let Some(length) = self.read.windows(2).position(|two| two == b"\r\n") else { return false };
        let line = String::from_utf8(self.read[..length].to_vec()).expect("operations are text");
        let mut body = 0;
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "PING" => self.answers.extend_from_slice(b"PONG\r\n"),
            "CONNECT" | "PONG" => {}
            "SUB" => {
                let (subject, sid) = (words[1], words[words.len() - 1]);
                self.subscriptions.push((subject.to_owned(), sid.to_owned()));
            }
            "UNSUB" => self.subscriptions.retain(|(_, sid)| sid != words[1]),
            "PUB" | "HPUB" => {
                let has_headers = words[0] == "HPUB";
                let total: usize = words[words.len() - 1].parse().expect("a size");
                body = total + 2;
                let Some(message) = self.read.get(length + 2..length + 2 + body) else { return false };
                assert!(message.ends_with(b"\r\n"), "{line}");
                let numbers = if has_headers { 2 } else { 1 };
                let reply = (words.len() > 2 + numbers).then(|| words[2].to_owned());
                let headers = if has_headers { words[words.len() - 2].parse().expect("a size") } else { 0 };
                let payload = message[headers..total].to_vec();
                self.publish(words[1], reply.as_deref(), &payload);
            }
            other => panic!("{other:?} is no operation of a client"),
        }
        self.read.drain(..length + 2 + body);
        true
    }

    fn publish(&mut self, subject: &str, reply: Option<&str>, payload: &[u8]) {
        self.deliver(subject, payload);
        let Some(reply) = reply else { return };
        if subject.starts_with("$JS.API.STREAM.INFO.") {
            self.deliver(reply, STREAM_INFO.as_bytes());
        } else if subject.starts_with("$JS.") {
            self.deliver(reply, br#"{"error":{"code":404,"err_code":10059,"description":"stream not found"}}"#);
        } else if let Some(answer) = self.model.take(subject, payload) {
            self.deliver(reply, answer.as_bytes());
        }
    }

    fn deliver(&mut self, subject: &str, payload: &[u8]) {
        for (filter, sid) in &self.subscriptions {
            let parent = subject.rsplit_once('.').map(|(parent, _)| parent);
            if filter == subject || (filter.ends_with(".*") && filter.strip_suffix(".*") == parent) {
                self.answers.extend_from_slice(format!("MSG {subject} {sid} {}\r\n", payload.len()).as_bytes());
                self.answers.extend_from_slice(payload);
                self.answers.extend_from_slice(b"\r\n");
            }
        }
    }
}
