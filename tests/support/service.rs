//! A service that knows devices, on loopback, as good or bad as a test wants it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// How the service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mood {
    /// As it should.
    Good,
    /// As it should, but with this status where the path holds that text, as the firewalls of web frameworks do.
    Refusing(u16, &'static str),
    /// With this status and body, whatever is asked.
    Always(u16, String),
    /// As it should, after this time.
    Slow(Duration),
    /// Not at all: requests are read and kept waiting until the mood changes.
    Silent,
    /// By closing every connection.
    Down,
}

#[derive(Debug)]
struct State {
    records: HashMap<String, String>,
    mood: Mood,
    /// Paths of the requests, with the authorization of each.
    requests: Vec<(String, String)>,
    connections: usize,
}

/// The service. Its threads end with the process.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Service {
    /// Starts a service that knows nobody.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State { records: HashMap::new(), mood: Mood::Good, requests: Vec::new(), connections: 0 };
        let service = Self { address, state: Arc::new((Mutex::new(state), Condvar::new())) };
        let accepting = service.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                accepting.lock().connections += 1;
                let serving = accepting.clone();
                thread::spawn(move || drop(serving.serve(&stream)));
            }
        });
        service
    }

    /// Where devices are found.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/devices", self.address)
    }

    /// Puts a record under an id; the record may be of another one.
    pub(crate) fn put(&self, id: &str, record: &Value) {
        self.lock().records.insert(id.to_owned(), record.to_string());
    }

    /// Takes a record away.
    pub(crate) fn remove(&self, id: &str) {
        self.lock().records.remove(id);
    }

    /// Changes how it answers.
    pub(crate) fn set_mood(&self, mood: Mood) {
        self.lock().mood = mood;
        self.state.1.notify_all();
    }

    /// How often this path below the URL was asked for.
    pub(crate) fn asked(&self, segment: &str) -> usize {
        let path = format!("/devices/{segment}");
        self.lock().requests.iter().filter(|(asked, _)| *asked == path).count()
    }

    /// The authorizations that came with all requests.
    pub(crate) fn authorizations(&self) -> Vec<String> {
        self.lock().requests.iter().map(|(_, authorization)| authorization.clone()).collect()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.lock().connections
    }

    fn serve(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut writer = stream;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut authorization = String::new();
            loop {
                let mut header = String::new();
                reader.read_line(&mut header)?;
                if let Some(value) = header.to_ascii_lowercase().strip_prefix("authorization: ") {
                    authorization = header[header.len() - value.len()..].trim().to_owned();
                }
                if header.trim().is_empty() {
                    break;
                }
            }
            self.lock().requests.push((path.clone(), authorization));
            let Some((status, body)) = self.answer(&path) else { return Ok(()) };
            let length = body.len();
            write!(
                writer,
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            )?;
        }
    }

    /// Status and body; `None`: the connection is closed.
    fn answer(&self, path: &str) -> Option<(u16, String)> {
        let state = self.state.1.wait_while(self.lock(), |state| state.mood == Mood::Silent);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if let Mood::Slow(time) = state.mood {
            let slow = self.state.1.wait_timeout_while(state, time, |state| matches!(state.mood, Mood::Slow(_)));
            state = slow.unwrap_or_else(PoisonError::into_inner).0;
        }
        match &state.mood {
            Mood::Down | Mood::Silent => None,
            Mood::Always(status, body) => Some((*status, body.clone())),
            Mood::Refusing(status, text) if path.contains(text) => Some((*status, "<h1>No</h1>".to_owned())),
            Mood::Good | Mood::Refusing(..) | Mood::Slow(_) => {
                let id = decode(path.strip_prefix("/devices/").unwrap_or_default());
                let record = state.records.get(&id).cloned();
                Some(record.map_or((404, r#"{"error":"no such device"}"#.to_owned()), |record| (200, record)))
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn decode(segment: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let (digits, after) = rest.split_at(2);
            rest = after;
            bytes.push(u8::from_str_radix(str::from_utf8(digits).expect("hex digits"), 16).expect("hex digits"));
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).expect("ids are UTF-8")
}
