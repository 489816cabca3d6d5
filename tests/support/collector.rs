//! A collector of spans: OTLP over HTTP, as much of it as an exporter sees.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use jetlinks_bridge::protocol::trace::TraceContext;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::eventually;

/// How long a span may take from its end to the collector.
const PATIENCE: Duration = Duration::from_secs(60);

/// Answers every batch in one way; its port is taken until the process ends.
#[derive(Debug)]
pub(crate) struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<Exported>,
    /// Request lines and headers, in lower case.
    heads: Vec<String>,
}

/// One span that arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exported {
    /// Name, kind, times, status.
    pub(crate) span: Span,
    /// Attributes of the span.
    pub(crate) attributes: BTreeMap<String, String>,
    /// Attributes of the process that made it.
    pub(crate) resource: BTreeMap<String, String>,
}

/// Reaction of a collector to a batch.
#[derive(Debug, Clone, Copy)]
enum Manners {
    Answer(u16),
    Hang,
}

impl Collector {
    /// Takes everything.
    pub(crate) fn start() -> Self {
        Self::serve(Manners::Answer(200))
    }

    /// Answers with that status.
    pub(crate) fn answering(status: u16) -> Self {
        Self::serve(Manners::Answer(status))
    }

    /// Takes connections and requests, and answers nothing.
    pub(crate) fn hanging() -> Self {
        Self::serve(Manners::Hang)
    }

    fn serve(manners: Manners) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let received: Arc<Mutex<Received>> = Arc::default();
        let own = Arc::clone(&received);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&own);
                // An exporter that goes away in the middle is none of the test's business.
                thread::spawn(move || drop(answer(stream, manners, &received)));
            }
        });
        Self { address, received }
    }

    /// Value for `tracing.endpoint`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Spans so far.
    pub(crate) fn spans(&self) -> Vec<Exported> {
        self.received.lock().expect("no thread panics").spans.clone()
    }

    /// Request lines and headers so far, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.received.lock().expect("no thread panics").heads.clone()
    }

    /// The span at this place in a trace, once it has arrived.
    pub(crate) fn span(&self, context: TraceContext) -> Exported {
        let is_meant = |exported: &Exported| exported.context() == TraceContext { sampled: true, ..context };
        eventually(&format!("the span {context:?} arrives"), PATIENCE, || self.spans().into_iter().find(is_meant))
    }
}

impl Exported {
    /// Its place.
    pub(crate) fn context(&self) -> TraceContext {
        let text = format!("00-{}-{}-01", hex(&self.span.trace_id), hex(&self.span.span_id));
        TraceContext::parse(&text).unwrap_or_else(|| panic!("{text}"))
    }

    /// The span that it belongs below, as text; empty when there is none.
    pub(crate) fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// An attribute; empty when there is none.
    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(stream: TcpStream, manners: Manners, received: &Mutex<Received>) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length:").nth(1).and_then(|rest| rest.lines().next()?.trim().parse().ok());
        let mut body = vec![0; length.expect("a batch says how long it is")];
        reader.read_exact(&mut body)?;
        let status = match manners {
            Manners::Answer(status) => status,
            Manners::Hang => continue,
        };
        let mut received = received.lock().expect("no thread panics");
        received.heads.push(head);
        received.spans.extend(decode(&body));
        drop(received);
        write!(writer, "HTTP/1.1 {status} \r\ncontent-length: 0\r\n\r\n")?;
    }
}

fn decode(body: &[u8]) -> Vec<Exported> {
    let request = ExportTraceServiceRequest::decode(body).expect("a batch is well formed");
    let mut exported = Vec::new();
    for of_process in request.resource_spans {
        let resource = texts(&of_process.resource.expect("a process names itself").attributes);
        for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            exported.push(Exported { attributes: texts(&span.attributes), resource: resource.clone(), span });
        }
    }
    exported
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |pair: &KeyValue| match pair.value.clone().and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => (pair.key.clone(), text),
        other => panic!("{}: {other:?}", pair.key),
    };
    attributes.iter().map(text).collect()
}
