//! Requests that are open.

use super::PeerKey;
use super::demand::Demand;
use super::seen::RequestKey;
use crate::codec::coap::{Block, Code, Draft, Kind, option};
use crate::protocol::id::DeviceId;
use crate::protocol::trace::Span;
use crate::protocol::uplink::{Record, Token};
use crate::session::slots::Slots;

/// Names an open request, and not a later one in its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExchangeId {
    pub(super) slot: u32,
    pub(super) generation: u16,
}

impl From<Token> for ExchangeId {
    fn from(token: Token) -> Self {
        Self { slot: token.slot, generation: token.generation }
    }
}

impl From<ExchangeId> for Token {
    fn from(id: ExchangeId) -> Self {
        Self { slot: id.slot, generation: id.generation, sequence: 0 }
    }
}

/// What an answer must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Success or what is wrong.
    pub(super) code: Code,
    /// Block1 of the request.
    pub(super) block: Option<Block>,
    /// Block2: which block of a longer answer the content is.
    pub(super) piece: Option<Block>,
    /// Most bytes that are taken; with 4.13.
    pub(super) size_max: Option<u32>,
    /// Most seconds until it is worth trying again; with 5.03.
    pub(super) max_age_secs: Option<u32>,
    /// What is wrong, for people (RFC 7252 section 5.5.2). Short: an answer must not be longer than its request.
    pub(super) diagnostic: Option<&'static str>,
    /// JSON.
    pub(super) content: Option<Vec<u8>>,
}

impl Answer {
    pub(super) fn new(code: Code) -> Self {
        Self { code, block: None, piece: None, size_max: None, max_age_secs: None, diagnostic: None, content: None }
    }

    /// A block of what a device asked for.
    pub(super) fn content(piece: Option<Block>, json: Vec<u8>) -> Self {
        Self { piece, content: Some(json), ..Self::new(Code::CONTENT) }
    }
}

/// Whom an answer goes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pub(super) peer: PeerKey,
    pub(super) request: RequestKey,
    /// Whether the request was a CON.
    pub(super) confirmable: bool,
}

impl Caller {
    /// The kind of an answer that follows the request at once.
    pub(super) fn kind_at_once(&self) -> Kind {
        if self.confirmable { Kind::Acknowledgement } else { Kind::NonConfirmable }
    }

    /// The answer as a datagram; in an ACK its message id must be that of the request.
    pub(super) fn encode(&self, kind: Kind, id: u16, answer: &Answer) -> Vec<u8> {
        let mut draft = Draft::new(kind, answer.code, id, self.request.token);
        if let Some(block) = answer.block {
            draft = draft.uint(option::BLOCK1, block.to_uint());
        }
        if let Some(piece) = answer.piece {
            draft = draft.uint(option::BLOCK2, piece.to_uint());
        }
        if let Some(seconds) = answer.max_age_secs {
            draft = draft.uint(option::MAX_AGE, seconds);
        }
        if let Some(bytes) = answer.size_max {
            draft = draft.uint(option::SIZE1, bytes);
        }
        if let Some(diagnostic) = answer.diagnostic {
            draft = draft.payload(diagnostic.as_bytes());
        }
        if let Some(json) = &answer.content {
            draft = draft.uint(option::CONTENT_FORMAT, option::FORMAT_JSON).payload(json);
        }
        draft.encode()
    }
}

/// A record on its way to the queue, and what its device gets then.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) device: DeviceId,
    pub(super) record: Record,
    /// Its span, where its trace is sampled.
    pub(super) span: Option<Box<Span>>,
    pub(super) answer: Answer,
    /// Which copy of the record is on its way.
    pub(super) sequence: u16,
    /// When that copy was handed over, us.
    pub(super) handed_over_us: u64,
}

/// An answer of its own that the device has not acknowledged.
#[derive(Debug)]
pub(super) struct Apart {
    /// Its message id.
    pub(super) id: u16,
    pub(super) datagram: Vec<u8>,
    pub(super) retransmissions: u8,
    pub(super) timeout_us: u64,
    pub(super) due_us: u64,
}

/// What an open request waits for.
#[derive(Debug)]
pub(super) enum Stage {
    /// The registry.
    Lookup(Box<Demand>),
    /// Nothing: it is being judged.
    Judged,
    /// The queue.
    Queued(Box<Queued>),
    /// The device.
    Apart(Box<Apart>),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) caller: Caller,
    /// Block1 of the request.
    pub(super) block: Option<Block>,
    pub(super) arrived_us: u64,
    /// Counts the requests, in the order of their arrival.
    pub(super) number: u64,
    /// Whether an empty ACK was sent.
    pub(super) acknowledged: bool,
    pub(super) stage: Stage,
}

/// Open requests.
#[derive(Debug)]
pub(super) struct Exchanges {
    slots: Slots<Exchange>,
    max: usize,
}

impl Exchanges {
    pub(super) fn new(max: usize) -> Self {
        Self { slots: Slots::new(), max }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.slots.len() >= self.max
    }

    /// Takes one in; the caller has seen that there is room.
    pub(super) fn insert(&mut self, exchange: Exchange) -> ExchangeId {
        self.slots.insert(exchange).into()
    }

    pub(super) fn get(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.slots.find_mut(id.into())
    }

    pub(super) fn remove(&mut self, id: ExchangeId) -> Option<Exchange> {
        self.slots.release(id.into())
    }

    /// Their ids, in the order of their arrival.
    pub(super) fn ids(&self) -> Vec<ExchangeId> {
        let mut open: Vec<(u64, Token)> =
            self.slots.entries().map(|(token, exchange)| (exchange.number, token)).collect();
        open.sort_unstable_by_key(|(number, _)| *number);
        open.into_iter().map(|(_, token)| token.into()).collect()
    }
}
