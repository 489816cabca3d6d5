//! The maker of envelopes.

use bytes::{BufMut, Bytes, BytesMut};

use super::device_path::DevicePath;
use super::head::{Head, Origin};
use super::{EnvelopeType, Mode, Reason, Rejection, Source, subject_too_long};
use crate::protocol::address::{SUBJECT_BYTES_MAX, write_token};
use crate::protocol::clock::{RFC3339_BYTES, rfc3339};
use crate::protocol::downlink::Outcome;
use crate::protocol::json::write_string;
use crate::protocol::message::{Message, write_base64};
use crate::protocol::topic::Route;
use crate::protocol::trace::{Operation, Span, TraceContext, Tracer};
use crate::protocol::ulid::{self, ULID_TEXT_BYTES, UlidGenerator};
use crate::protocol::uplink::{Addressing, Channel, Record};

/// Small envelopes are cut from chunks of this size, so one that is held keeps at most this much more in memory.
const CHUNK_BYTES: usize = 32 * 1024;

/// Envelopes that may be larger than this get an allocation of their own size: of a chunk they would leave up to half
/// unused, for as long as they are held.
const SMALL_BYTES: usize = 4 * 1024;

/// Usual size of the attributes of an envelope, in bytes; a hint only.
const HEAD_BYTES: usize = 640;

/// Makes envelopes; one per worker. Set the time with [`Encoder::set_now`] once per tick.
#[derive(Debug)]
pub struct Encoder {
    mode: Mode,
    addressing: Addressing,
    pub(super) replica_id: String,
    pub(super) now_ms: u64,
    now_text: [u8; RFC3339_BYTES],
    /// The last message's time: messages often share it.
    time: (i64, Option<[u8; RFC3339_BYTES]>),
    ulids: UlidGenerator,
    arena: BytesMut,
    /// Buffer of large envelopes, whose size is not known before they are written.
    large: BytesMut,
    /// Tracer of the records that this encoder writes; off unless [`Encoder::with_tracer`] sets one.
    pub tracer: Tracer,
}

/// An envelope without its address.
pub(super) struct Encoded {
    pub(super) payload: Bytes,
    pub(super) attributes: Vec<(&'static str, String)>,
    /// Start and end of `data` in the payload.
    data: (usize, usize),
}

impl Encoder {
    /// An encoder for this replica; the time is 1970 until it is set. `seed` must be random: ids follow from it.
    pub fn new(mode: Mode, addressing: Addressing, replica_id: String, seed: u128) -> Self {
        let now_text = text_of(0);
        Self {
            mode,
            addressing,
            replica_id,
            now_ms: 0,
            now_text,
            time: (0, Some(now_text)),
            ulids: UlidGenerator::new(seed),
            arena: BytesMut::with_capacity(CHUNK_BYTES),
            large: BytesMut::new(),
            tracer: Tracer::off(),
        }
    }

    /// The same encoder, with tracing.
    #[must_use]
    pub fn with_tracer(self, tracer: Tracer) -> Self {
        Self { tracer, ..self }
    }

    /// Sets the time of all envelopes that follow, ms since 1970.
    pub fn set_now(&mut self, now_ms: u64) {
        if now_ms != self.now_ms {
            self.now_ms = now_ms;
            self.now_text = text_of(now_ms);
        }
    }

    /// The envelope of a device's message. A message whose subject would be longer than [`SUBJECT_BYTES_MAX`] becomes a
    /// rejected one.
    pub fn device(
        &mut self,
        source: &Source<'_>,
        route: &Route<'_>,
        message: &Message<'_>,
        trace: Option<TraceContext>,
    ) -> Record {
        let head = self.device_head(source, route, message, trace);
        match self.device_address(source, route) {
            Some(address) => {
                let encoded = self.encode_message(&head, route, message);
                self.record(Channel::Device, address, encoded, trace)
            }
            None => self.unaddressable(source, route, trace),
        }
    }

    /// A reply: the record of [`Encoder::device`], and the same envelope (with the same id) for the caller, with the
    /// correlation id and the trace of the command that it answers.
    pub fn reply(
        &mut self,
        source: &Source<'_>,
        route: &Route<'_>,
        message: &Message<'_>,
        trace: Option<TraceContext>,
        (correlation_id, command_trace): (&str, Option<TraceContext>),
    ) -> (Record, Outcome) {
        let head = self.device_head(source, route, message, trace);
        let encoded = self.encode_message(&head, route, message);
        let data = encoded.payload.slice(encoded.data.0..encoded.data.1);
        let record = match self.device_address(source, route) {
            Some(address) => self.record(Channel::Device, address, encoded, trace),
            None => self.unaddressable(source, route, trace),
        };
        let head = Head { correlation: Some(correlation_id), trace: command_trace, ..head };
        let encoded = self.encode(&head, data.len(), |out| out.put_slice(&data));
        let outcome = Outcome {
            device: route.about().to_owned(),
            correlation_id: correlation_id.to_owned(),
            payload: encoded.payload,
            attributes: encoded.attributes,
            trace: command_trace,
            failure: None,
        };
        (record, outcome)
    }

    /// The envelope of a rejected message. It is about the connected device.
    pub fn rejected(&mut self, source: &Source<'_>, rejection: &Rejection<'_>, trace: Option<TraceContext>) -> Record {
        // The envelope is about the connected device, whose product is that of its topics, even when a child was meant.
        let path = DevicePath { about_product: None, ..DevicePath::of(source, &[]) };
        let head = Head { path: Some(path), session: source.session, trace, ..self.head(EnvelopeType::Rejected) };
        let address = match &self.addressing {
            Addressing::Key => key(&mut self.arena, source.device),
            Addressing::Subject(prefix) => {
                self.arena.put_slice(prefix.as_bytes());
                self.arena.put_slice(b".rejected.");
                path.write_tokens(&mut self.arena);
                self.arena.split().freeze()
            }
        };
        let payload_bytes = rejection.payload.map_or(0, |payload| payload.len() / 3 * 4 + 4);
        let hint = 64 + payload_bytes + 2 * (rejection.topic.len() + rejection.detail.len());
        let encoded = self.encode(&head, hint, |out| {
            out.put_slice(b"{\"topic\":");
            write_string(out, rejection.topic);
            if let Some(payload) = rejection.payload {
                out.put_slice(b",\"payload_base64\":\"");
                write_base64(out, payload);
                out.put_u8(b'"');
            }
            out.put_slice(b",\"reason\":\"");
            out.put_slice(rejection.reason.as_str().as_bytes());
            out.put_slice(b"\",\"detail\":");
            write_string(out, rejection.detail);
            out.put_u8(b'}');
        });
        self.record(Channel::Rejected, address, encoded, trace)
    }

    fn unaddressable(&mut self, source: &Source<'_>, route: &Route<'_>, trace: Option<TraceContext>) -> Record {
        let detail = subject_too_long();
        let rejection = Rejection { topic: route.topic, payload: None, reason: Reason::TooLarge, detail: &detail };
        self.rejected(source, &rejection, trace)
    }

    fn device_head<'a>(
        &mut self,
        source: &Source<'a>,
        route: &'a Route<'a>,
        message: &Message<'_>,
        trace: Option<TraceContext>,
    ) -> Head<'a> {
        if self.time.0 != message.timestamp() {
            self.time = (message.timestamp(), rfc3339(message.timestamp()));
        }
        Head {
            path: Some(DevicePath::of(source, &route.children)),
            subject: route.event,
            time: self.time.1.unwrap_or(self.now_text),
            origin: Origin::Device,
            session: source.session,
            trace,
            ..self.head(EnvelopeType::Device(message.message_type()))
        }
    }

    fn device_address(&mut self, source: &Source<'_>, route: &Route<'_>) -> Option<Bytes> {
        self.address(&DevicePath::of(source, &route.children), route.message_type.dotted(), route.event)
    }

    /// The address of a record about a device; `None` when the subject would be too long.
    pub(super) fn address(&mut self, path: &DevicePath<'_>, dotted: &str, event: Option<&str>) -> Option<Bytes> {
        let arena = &mut self.arena;
        match &self.addressing {
            Addressing::Key => Some(key(arena, path.about())),
            Addressing::Subject(prefix) => {
                arena.put_slice(prefix.as_bytes());
                arena.put_slice(b".device.");
                path.write_tokens(arena);
                arena.put_u8(b'.');
                arena.put_slice(dotted.as_bytes());
                if let Some(event) = event {
                    arena.put_u8(b'.');
                    write_token(arena, event);
                }
                if arena.len() > SUBJECT_BYTES_MAX {
                    arena.clear();
                    return None;
                }
                Some(arena.split().freeze())
            }
        }
    }

    /// The address of this replica's heartbeat.
    pub(super) fn replica_address(&mut self) -> Bytes {
        match &self.addressing {
            Addressing::Key => key(&mut self.arena, &self.replica_id),
            Addressing::Subject(prefix) => {
                self.arena.put_slice(prefix.as_bytes());
                self.arena.put_slice(b".bridge.replica.");
                write_token(&mut self.arena, &self.replica_id);
                self.arena.split().freeze()
            }
        }
    }

    fn encode_message(&mut self, head: &Head<'_>, route: &Route<'_>, message: &Message<'_>) -> Encoded {
        self.encode(head, message.data_bytes_max(route.topic.len()), |out| message.write_data(out, route))
    }

    /// Writes an envelope whose data the function writes, in about `data_bytes` bytes.
    pub(super) fn encode(
        &mut self,
        head: &Head<'_>,
        data_bytes: usize,
        write_data: impl FnOnce(&mut BytesMut),
    ) -> Encoded {
        let is_small = HEAD_BYTES + data_bytes <= SMALL_BYTES;
        let out = if is_small { &mut self.arena } else { &mut self.large };
        out.reserve(HEAD_BYTES + data_bytes);
        let (data, attributes) = match self.mode {
            Mode::Structured => {
                head.write(out, &self.replica_id);
                let start = out.len();
                write_data(out);
                let end = out.len();
                out.put_u8(b'}');
                ((start, end), Vec::new())
            }
            Mode::Binary => {
                write_data(out);
                ((0, out.len()), head.attributes(&self.replica_id))
            }
        };
        let payload = if is_small { out.split().freeze() } else { self.take_large() };
        Encoded { payload, attributes, data }
    }

    /// The large envelope in an allocation of its size.
    fn take_large(&mut self) -> Bytes {
        let payload = Bytes::copy_from_slice(&self.large);
        self.large.clear();
        if self.large.capacity() > 2 * CHUNK_BYTES {
            self.large = BytesMut::new();
        }
        payload
    }

    pub(super) fn record(
        &self,
        channel: Channel,
        address: Bytes,
        encoded: Encoded,
        trace: Option<TraceContext>,
    ) -> Record {
        let Encoded { payload, attributes, .. } = encoded;
        let trace = trace.filter(|trace| trace.sampled);
        Record { channel, address, payload, attributes, recorded_ms: self.now_ms, trace }
    }

    /// The span of the record that was made last, from a message of this type about that device; `None` where its trace
    /// is not sampled.
    pub fn span(
        &self,
        record: &Record,
        source: &Source<'_>,
        about: &str,
        message: &'static str,
        parent: Option<TraceContext>,
    ) -> Option<Box<Span>> {
        let context = record.trace?;
        Some(Box::new(Span {
            context,
            parent: parent.map(|parent| parent.span_id),
            operation: Operation::Uplink(record.channel),
            message: if record.channel == Channel::Rejected { "rejected" } else { message },
            product: source.product.to_owned(),
            device: about.to_owned(),
            gateway: (about != source.device).then(|| source.device.to_owned()),
            address: record.address.clone(),
            message_id: self.ulids.last().to_string(),
            correlation_id: String::new(),
            start_us: self.now_ms.saturating_mul(1000),
            duration_us: 0,
            failure: None,
        }))
    }

    /// The head of an envelope of the bridge itself at this moment; the caller fills in the rest.
    pub(super) fn head(&mut self, envelope_type: EnvelopeType) -> Head<'static> {
        Head {
            id: self.id(),
            path: None,
            envelope_type,
            subject: None,
            time: self.now_text,
            recorded: self.now_text,
            origin: Origin::Bridge,
            session: None,
            replica: false,
            trace: None,
            correlation: None,
        }
    }

    fn id(&mut self) -> [u8; ULID_TEXT_BYTES] {
        ulid::text(self.ulids.generate(self.now_ms))
    }
}

fn key(arena: &mut BytesMut, id: &str) -> Bytes {
    arena.put_slice(id.as_bytes());
    arena.split().freeze()
}

/// The clock as text. A clock beyond the year 9999 shows its last moment.
fn text_of(now_ms: u64) -> [u8; RFC3339_BYTES] {
    i64::try_from(now_ms).ok().and_then(rfc3339).unwrap_or(*b"9999-12-31T23:59:59.999Z")
}
