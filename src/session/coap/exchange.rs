//! Open requests of a CoAP endpoint: each an exchange, from the request's arrival until its answer is sent, or acknowledged
//! where it is a separate response.

use std::borrow::Cow;

use super::PeerKey;
use super::dedup::RequestKey;
use super::request::Request;
use crate::codec::coap::{Block, Code, Kind, MessageBuilder, option};
use crate::protocol::id::DeviceId;
use crate::protocol::trace::Span;
use crate::protocol::uplink::Record;

/// Bytes between the options and a payload (RFC 7252 section 3).
const PAYLOAD_MARKER_BYTES: usize = 1;

/// Content of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Response code.
    pub(super) code: Code,
    /// Block1 of the request.
    pub(super) block1: Option<Block>,
    /// Block2: which block of a longer answer the content is.
    pub(super) block2: Option<Block>,
    /// Size1: longest body that is accepted, in bytes; with 4.13.
    pub(super) size_max: Option<u32>,
    /// Max-Age: seconds until the device may try again; with 5.03.
    pub(super) max_age_secs: Option<u32>,
    /// Diagnostic payload for people (RFC 7252 section 5.5.2).
    pub(super) diagnostic: Option<Cow<'static, str>>,
    /// Payload, as JSON.
    pub(super) content: Option<Vec<u8>>,
}

impl Answer {
    pub(super) fn new(code: Code) -> Self {
        Self { code, block1: None, block2: None, size_max: None, max_age_secs: None, diagnostic: None, content: None }
    }

    /// An answer that says why. [`Caller::encode`] cuts what is too long.
    pub(super) fn because(code: Code, diagnostic: impl Into<Cow<'static, str>>) -> Self {
        Self { diagnostic: Some(diagnostic.into()), ..Self::new(code) }
    }

    /// 2.05 with a block of the answer, or all of it.
    pub(super) fn content(block2: Option<Block>, json: Vec<u8>) -> Self {
        Self { block2, content: Some(json), ..Self::new(Code::CONTENT) }
    }
}

/// Sender of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) peer: PeerKey,
    pub(super) key: RequestKey,
    /// Whether the request was a CON.
    pub(super) confirmable: bool,
    /// Length of the request's datagram.
    pub(super) request_bytes: usize,
}

impl Caller {
    /// The kind of an answer that follows the request at once: piggybacked in the ACK of a CON, else a NON.
    pub(super) fn immediate_kind(&self) -> Kind {
        if self.confirmable { Kind::Acknowledgement } else { Kind::NonConfirmable }
    }

    /// The answer as a datagram; in an ACK its message id must be that of the request. A diagnostic payload makes it no longer
    /// than the request was: else whoever sends requests under the address of somebody else would have more sent there than
    /// they send (RFC 7252 section 11.3).
    pub(super) fn encode(&self, kind: Kind, id: u16, answer: &Answer) -> Vec<u8> {
        let mut draft = MessageBuilder::new(kind, answer.code, id, self.key.token);
        if let Some(block) = answer.block1 {
            draft = draft.uint(option::BLOCK1, block.to_uint());
        }
        if let Some(block2) = answer.block2 {
            draft = draft.uint(option::BLOCK2, block2.to_uint());
        }
        if let Some(seconds) = answer.max_age_secs {
            draft = draft.uint(option::MAX_AGE, seconds);
        }
        if let Some(bytes) = answer.size_max {
            draft = draft.uint(option::SIZE1, bytes);
        }
        if let Some(diagnostic) = &answer.diagnostic {
            let room = self.request_bytes.saturating_sub(draft.encode().len() + PAYLOAD_MARKER_BYTES);
            draft = draft.payload(&diagnostic.as_bytes()[..diagnostic.floor_char_boundary(room)]);
        }
        if let Some(json) = &answer.content {
            draft = draft.uint(option::CONTENT_FORMAT, option::FORMAT_JSON).payload(json);
        }
        draft.encode()
    }
}

/// A record on its way to the queue, and the answer for its device once it is stored.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) device: DeviceId,
    pub(super) record: Record,
    /// Span, where the trace is sampled.
    pub(super) span: Option<Box<Span>>,
    pub(super) answer: Answer,
    /// Number of the copy of the record that is on its way.
    pub(super) sequence: u16,
    /// Time of the handover of that copy, us.
    pub(super) handed_over_us: u64,
}

/// A separate response (RFC 7252 section 5.2.2) that the device has not acknowledged.
#[derive(Debug)]
pub(super) struct SeparateResponse {
    /// Its message id.
    pub(super) id: u16,
    pub(super) datagram: Vec<u8>,
    pub(super) retransmissions: u8,
    pub(super) timeout_us: u64,
    pub(super) due_us: u64,
}

/// State of an open request, by what it waits for.
#[derive(Debug)]
pub(super) enum Stage {
    /// The registry.
    Lookup(Box<Request>),
    /// Nothing: the endpoint is handling it.
    Handling,
    /// The queue.
    Queued(Box<Queued>),
    /// The device.
    Separate(Box<SeparateResponse>),
}

/// An open request.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) caller: Caller,
    /// Block1 of the request.
    pub(super) block1: Option<Block>,
    pub(super) arrived_us: u64,
    /// Number of the request, in the order of arrival.
    pub(super) number: u64,
    /// Whether an empty ACK was sent.
    pub(super) acknowledged: bool,
    pub(super) stage: Stage,
}
