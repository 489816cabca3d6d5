//! The attributes of an envelope, in the order in which they are written.

use bytes::{BufMut, BytesMut};

use super::EnvelopeType;
use super::device_path::DevicePath;
use crate::protocol::address::write_segment;
use crate::protocol::clock::RFC3339_BYTES;
use crate::protocol::json::write_escaped;
use crate::protocol::trace::TraceContext;
use crate::protocol::ulid::ULID_TEXT_BYTES;

/// All parts of an envelope but its data.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) id: [u8; ULID_TEXT_BYTES],
    /// `None` when it is about no device: then the replica is the source.
    pub(super) path: Option<DevicePath<'a>>,
    pub(super) envelope_type: EnvelopeType,
    pub(super) subject: Option<&'a str>,
    pub(super) time: [u8; RFC3339_BYTES],
    pub(super) recorded: [u8; RFC3339_BYTES],
    pub(super) origin: Origin,
    pub(super) session: Option<&'a str>,
    /// Whether the replica is an attribute.
    pub(super) replica: bool,
    pub(super) trace: Option<TraceContext>,
    pub(super) correlation: Option<&'a str>,
}

/// Author of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    Device,
    Bridge,
}

/// An attribute's name, bare and as JSON between two attributes.
struct Name {
    bare: &'static str,
    json: &'static str,
}

macro_rules! name {
    ($name:literal) => {
        &Name { bare: $name, json: concat!("\",\"", $name, "\":\"") }
    };
}

/// The name of an attribute and the beginning of its value, and both as JSON: one copy where there would be two.
struct Known {
    name: &'static str,
    start: &'static str,
    json: &'static str,
}

macro_rules! known {
    ($name:literal, $start:literal) => {
        &Known { name: $name, start: $start, json: concat!("\",\"", $name, "\":\"", $start) }
    };
}

/// Takes attributes, all of which are texts.
trait Sink {
    /// A value of which the beginning is known, and the rest needs no escapes.
    fn known(&mut self, known: &'static Known, end: &str);
    /// A value that needs no escapes.
    fn plain(&mut self, name: &'static Name, value: &[u8]);
    /// Any text.
    fn text(&mut self, name: &'static Name, text: &str);
    /// A value that is written by a function and needs no escapes.
    fn written(&mut self, name: &'static Name, write: impl FnOnce(&mut BytesMut));
}

/// Writes attributes as JSON; the quote of the last value stays open.
struct Structured<'a>(&'a mut BytesMut);

impl Sink for Structured<'_> {
    #[inline]
    fn known(&mut self, known: &'static Known, end: &str) {
        self.0.put_slice(known.json.as_bytes());
        if !end.is_empty() {
            self.0.put_slice(end.as_bytes());
        }
    }

    #[inline]
    fn plain(&mut self, name: &'static Name, value: &[u8]) {
        self.0.put_slice(name.json.as_bytes());
        self.0.put_slice(value);
    }

    #[inline]
    fn text(&mut self, name: &'static Name, text: &str) {
        self.0.put_slice(name.json.as_bytes());
        write_escaped(self.0, text);
    }

    #[inline]
    fn written(&mut self, name: &'static Name, write: impl FnOnce(&mut BytesMut)) {
        self.0.put_slice(name.json.as_bytes());
        write(self.0);
    }
}

/// Collects attributes.
struct Binary(Vec<(&'static str, String)>);

impl Sink for Binary {
    fn known(&mut self, known: &'static Known, end: &str) {
        self.0.push((known.name, format!("{}{end}", known.start)));
    }

    fn plain(&mut self, name: &'static Name, value: &[u8]) {
        self.0.push((name.bare, value.iter().copied().map(char::from).collect()));
    }

    fn text(&mut self, name: &'static Name, text: &str) {
        self.0.push((name.bare, text.to_owned()));
    }

    fn written(&mut self, name: &'static Name, write: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        write(&mut out);
        self.plain(name, &out);
    }
}

impl Head<'_> {
    /// Writes the attributes as JSON up to the name `data`, whose value and a closing brace are the caller's to write.
    pub(super) fn write(&self, out: &mut BytesMut, replica_id: &str) {
        out.put_slice(b"{\"specversion\":\"1.0");
        self.each(&mut Structured(out), replica_id);
        out.put_slice(b"\",\"data\":");
    }

    /// The attributes by name, without `data`.
    pub(super) fn attributes(&self, replica_id: &str) -> Vec<(&'static str, String)> {
        let mut sink = Binary(vec![("specversion", "1.0".to_owned())]);
        self.each(&mut sink, replica_id);
        sink.0
    }

    #[inline]
    fn each(&self, sink: &mut impl Sink, replica_id: &str) {
        sink.plain(name!("id"), &self.id);
        match &self.path {
            Some(path) => sink.written(name!("source"), |out| path.write_source(out)),
            None => sink.written(name!("source"), |out| {
                out.put_slice(b"urn:jetlinks-bridge:");
                write_segment(out, replica_id);
            }),
        }
        let start = if self.envelope_type.is_about_device() {
            known!("type", "org.jetlinks.device.")
        } else {
            known!("type", "org.jetlinks.bridge.")
        };
        sink.known(start, self.envelope_type.end());
        if let Some(subject) = self.subject {
            sink.text(name!("subject"), subject);
        }
        sink.plain(name!("time"), &self.time);
        sink.plain(name!("recordedtime"), &self.recorded);
        sink.known(known!("datacontenttype", "application/json"), "");
        let origin = match self.origin {
            Origin::Device => known!("origin", "device"),
            Origin::Bridge => known!("origin", "bridge"),
        };
        sink.known(origin, "");
        if let Some(path) = &self.path {
            sink.text(name!("productid"), path.about_product.unwrap_or(path.product));
            sink.text(name!("deviceid"), path.about());
            if !path.children.is_empty() {
                sink.text(name!("gatewayid"), path.device);
            }
        }
        if let Some(session) = self.session {
            sink.text(name!("sessionid"), session);
        }
        if self.replica {
            sink.text(name!("replicaid"), replica_id);
        }
        if let Some(trace) = self.trace {
            sink.plain(name!("traceparent"), trace.to_text().as_bytes());
        }
        if let Some(correlation) = self.correlation {
            sink.text(name!("correlationid"), correlation);
        }
    }
}
