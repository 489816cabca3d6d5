//! Context of every call of a session.

use super::Ending;
use super::window::SpareBuffers;
use crate::protocol::child::Children;
use crate::protocol::command::MessageIds;
use crate::protocol::downlink::{Code, Downlink};
use crate::protocol::envelope::{Encoder, Reason};
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::topic::MessageKind;
use crate::protocol::uplink::Uplink;
use crate::session::step::Step;

/// The world around a session, lent for one call.
pub struct Context<'a> {
    /// The time.
    pub now: Now,
    /// The bounds.
    pub limits: &'a Limits,
    /// Records and bytes of all sessions of the worker.
    pub load: &'a mut Load,
    /// Makes envelopes; its clock must be set to `now`.
    pub encoder: &'a mut Encoder,
    /// Where records go.
    pub uplink: &'a mut dyn Uplink,
    /// Where outcomes go.
    pub downlink: &'a mut dyn Downlink,
    /// Children in the registry.
    pub children: &'a dyn Children,
    /// Counters and log.
    pub observer: &'a mut dyn Observer,
    /// Whether an operator follows a device: [`Observer::step`] is called then, and only then.
    pub is_followed: bool,
    /// Bytes for the device.
    pub send: &'a mut Vec<u8>,
    /// Gives ids to commands that have none.
    pub message_ids: &'a mut MessageIds,
    /// Buffers of windows.
    pub spare_buffers: &'a mut SpareBuffers,
}

/// Why a message was dropped that nobody was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The queue did not take it in time.
    AckTimeout,
}

/// Something worth counting; some are worth a line in the log, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A device message was understood.
    Received(MessageKind),
    /// Something was not, and a rejected envelope says so.
    Rejected {
        /// Type of the message.
        kind: MessageKind,
        /// The reason.
        reason: Reason,
        /// The topic that it came on.
        topic: &'a str,
        /// The mistake, for people: that of the envelope.
        detail: &'a str,
    },
    /// The queue will never store a message that was understood, and a rejected envelope takes its place.
    RefusedByQueue {
        /// Type of the message.
        kind: MessageKind,
        /// The reason that the envelope names.
        reason: Reason,
        /// Topic of the message, without aliases.
        topic: &'a str,
        /// The queue's words.
        cause: &'a str,
    },
    /// A message on the topic of another device; the connection is closed.
    Foreign {
        /// The topic.
        topic: &'a str,
    },
    /// The queue has a message.
    Stored {
        /// From its receipt to its acknowledgement, us.
        latency_us: u64,
        /// From handing it over, the last time if it was sent again, to the queue's receipt, us.
        queue_us: u64,
    },
    /// A message was dropped.
    Dropped(DropReason),
    /// A message was given up unacknowledged; the device will send it again.
    Unacknowledged,
    /// A command has its outcome; `None`: the device answered.
    Outcome {
        /// The bridge's word.
        code: Option<Code>,
        /// From its receipt, us.
        latency_us: u64,
    },
    /// A command could not be read, and its caller is told so.
    Unreadable,
    /// A command has no outcome, as nobody waits for one; it was carried out or not.
    NoCaller,
    /// The session ended.
    Ended(Ending),
}

/// Counts and logs.
pub trait Observer {
    /// Takes note. Must not block.
    fn event(&mut self, event: Event<'_>);

    /// Takes note of a step for those who follow a device. Must not block.
    fn step(&mut self, _step: &Step<'_>) {}
}
