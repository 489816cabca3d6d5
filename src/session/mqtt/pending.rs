//! Commands that were written to the device and whose callers wait for an outcome.

use crate::codec::mqtt::PacketId;
use crate::protocol::command::CommandIdentity;
use crate::protocol::downlink::Ticket;
use crate::protocol::topic::Route;
use crate::protocol::trace::Span;

/// The packet of the device that ends the waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaits {
    /// The device's reply.
    Reply,
    /// The device's PUBACK of the packet that carried the command.
    Puback,
}

/// A command that waits for its outcome.
#[derive(Debug)]
pub struct Pending {
    /// The ticket to answer with.
    pub ticket: Ticket,
    /// Address and ids of the command, with the message id that the device answers with.
    pub identity: CommandIdentity,
    /// The packet of the device that ends the waiting.
    pub awaits: Awaits,
    /// The packet that carried it, at QoS 1.
    pub packet_id: Option<PacketId>,
    /// Time of its receipt, us of the worker's clock.
    pub taken_us: u64,
    /// Deadline, after which the caller gets TIME_OUT, us of the worker's clock.
    pub deadline_us: u64,
    /// Its span, where its trace is sampled.
    pub span: Option<Box<Span>>,
    /// Number of bytes that were written to the device up to its last one; 0 until that is noted.
    pub end: u64,
    /// Bytes that it adds to [`crate::protocol::limit::Load::command_bytes`].
    pub held_bytes: usize,
}

impl Pending {
    /// Bytes that a command of this identity takes while it waits, two entries for its deadline among them: as many as
    /// there may be for each command. Its span and its caller's reply subject are not.
    pub fn bytes(identity: &CommandIdentity) -> usize {
        const DEADLINE_BYTES: usize = 2 * size_of::<(u64, u64)>();
        size_of::<Self>() + DEADLINE_BYTES + identity.heap_bytes()
    }

    /// The message id that the device answers with.
    fn message_id(&self) -> &str {
        self.identity.message_id.as_deref().unwrap_or_default()
    }

    /// Whether a message that the device sent is the answer: about the same device, with the same message id, and of a
    /// type that answers (for a firmware upgrade its first progress, too).
    fn is_answered_by(&self, route: &Route<'_>, message_id: &str) -> bool {
        let answers = route
            .message_type
            .answers()
            .is_some_and(|asked| Some(asked) == self.identity.message_type || route.message_type.is_reply());
        self.awaits == Awaits::Reply
            && answers
            && self.message_id() == message_id
            && self.identity.children.iter().map(String::as_str).eq(route.children.iter().copied())
    }
}

/// The waiting commands of one session, in the order in which they were sent.
#[derive(Debug)]
pub struct PendingCommands {
    waiting: Vec<Pending>,
    /// The next packet id to try.
    next_packet_id: PacketId,
}

impl PendingCommands {
    /// A session without commands.
    pub fn new() -> Self {
        Self { waiting: Vec::new(), next_packet_id: PacketId::MIN }
    }

    /// Number of commands that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no command waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a command.
    pub fn push(&mut self, pending: Pending) {
        self.waiting.push(pending);
    }

    /// Notes the number of bytes that were written to the device up to the last one of the newest command.
    pub fn note_end(&mut self, end: u64) {
        if let Some(newest) = self.waiting.last_mut() {
            newest.end = end;
        }
    }

    /// Whether a command with this message id waits, for the same device.
    pub fn contains(&self, children: &[String], message_id: &str) -> bool {
        self.waiting.iter().any(|pending| pending.message_id() == message_id && pending.identity.children == children)
    }

    /// Whether a packet with this id waits for its PUBACK or its reply.
    pub fn holds_packet(&self, id: PacketId) -> bool {
        self.waiting.iter().any(|pending| pending.packet_id == Some(id))
    }

    /// A packet id that no waiting command holds. There is one: far fewer wait than ids exist.
    pub fn free_packet_id(&mut self) -> PacketId {
        loop {
            let id = self.next_packet_id;
            self.next_packet_id = id.checked_add(1).unwrap_or(PacketId::MIN);
            if !self.holds_packet(id) {
                return id;
            }
        }
    }

    /// Removes the command that this message answers.
    pub fn answered(&mut self, route: &Route<'_>, message_id: &str) -> Option<Pending> {
        let index = self.waiting.iter().position(|pending| pending.is_answered_by(route, message_id))?;
        Some(self.waiting.remove(index))
    }

    /// Notes a PUBACK; removes the command if it waited for nothing else.
    pub fn acknowledged(&mut self, id: PacketId) -> Option<Pending> {
        let index = self.waiting.iter().position(|pending| pending.packet_id == Some(id))?;
        self.waiting[index].packet_id = None;
        (self.waiting[index].awaits == Awaits::Puback).then(|| self.waiting.remove(index))
    }

    /// Deadlines of the commands, us of the worker's clock.
    pub fn deadlines_us(&self) -> impl Iterator<Item = u64> + '_ {
        self.waiting.iter().map(|pending| pending.deadline_us)
    }

    /// Removes the commands whose deadline has passed.
    pub fn expired(&mut self, now_us: u64) -> impl Iterator<Item = Pending> + '_ {
        self.waiting.extract_if(.., move |pending| pending.deadline_us <= now_us)
    }

    /// Removes all commands.
    pub fn take(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.waiting)
    }
}
