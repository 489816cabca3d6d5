//! Commands: from the queue to sessions, and their end when their time is over.

use super::WorkerCore;
use crate::protocol::command::{Command, CommandError};
use crate::protocol::downlink::{Code, DownlinkEvent, Recipient, Ticket};
use crate::protocol::limit::Now;
use crate::protocol::uplink::SlotId;
use crate::transport::socket::ByteStream;
use crate::transport::turn::TURN_BYTES;

impl<S: ByteStream> WorkerCore<S> {
    /// Takes events of the queue of commands, as many as belong into one turn: the iterator has the others then.
    pub fn command_events(&mut self, now: Now, events: &mut impl Iterator<Item = DownlinkEvent>) {
        self.environment.set_now(now);
        self.look_for_suspension(now);
        let mut taken_bytes = 0;
        while taken_bytes < TURN_BYTES {
            let Some(event) = events.next() else { break };
            match event {
                DownlinkEvent::Attached(session) => self.starting.note_attached(session),
                DownlinkEvent::BarrierReached(number) => self.suspension.barriers.note_returned(number),
                DownlinkEvent::Command { to, ticket, command } => {
                    taken_bytes += command.as_ref().map_or(0, Command::packet_bytes_max);
                    self.command(now, &to, ticket, command);
                }
                DownlinkEvent::ReplySubjectRefused => self.environment.meter.reply_subject_refused(),
                DownlinkEvent::Lost(count) => self.environment.meter.commands_lost(count),
            }
        }
        self.environment.uplink.flush();
    }

    /// Carries a command out, or keeps it for a session that is about to begin: the device has its interest in commands
    /// before it knows that it is connected.
    fn command(&mut self, now: Now, to: &Recipient, ticket: Option<Ticket>, command: Result<Command, CommandError>) {
        let session = match to {
            Recipient::Session(session) => *session,
            Recipient::Ended => return self.refuse_ended(now, ticket, command),
            Recipient::Device(device) => {
                let entry = self.replica.directory.find(device.as_str());
                let entry = entry.filter(|entry| entry.worker == self.replica.index);
                match entry.filter(|entry| self.connections.slots.find(entry.slot).is_some()) {
                    Some(entry) => return self.command_of(now, entry.slot, ticket, command),
                    None => {
                        let refusal = (Code::ClientOffline, "the device is not connected");
                        return self.refuse(now, ticket, command, self.suspended().unwrap_or(refusal));
                    }
                }
            }
        };
        let environment = &mut self.environment;
        match self.starting.commands(session) {
            None => self.command_of(now, session, ticket, command),
            Some(early) => {
                let surplus = early.push((ticket, command), &environment.limits, &mut environment.load);
                if let Some((ticket, command)) = surplus {
                    self.refuse(now, ticket, command, (Code::SystemBusy, "too many commands wait"));
                }
            }
        }
    }

    /// Gives a command to a session.
    pub(super) fn command_of(
        &mut self,
        now: Now,
        session: SlotId,
        ticket: Option<Ticket>,
        command: Result<Command, CommandError>,
    ) {
        if self.connections.slots.find(session).is_none() {
            return self.refuse_ended(now, ticket, command);
        }
        let refusal = self.suspended().or_else(|| self.refusal(session, command.as_ref().ok()?));
        if let Some(refusal) = refusal {
            return self.refuse(now, ticket, command, refusal);
        }
        let deadline_us = self.act(now, session, |state, ctx| state.session.command(ticket, command, ctx));
        if let Some(deadline_us) = deadline_us.flatten() {
            if let Some(state) = self.connection(session) {
                state.note_command();
            }
            self.note_deadline(deadline_us, session);
        }
    }

    fn refuse_ended(&mut self, now: Now, ticket: Option<Ticket>, command: Result<Command, CommandError>) {
        let refusal = self.suspended().unwrap_or((Code::ConnectionLost, "the session has ended"));
        self.refuse(now, ticket, command, refusal);
    }

    fn suspended(&self) -> Option<(Code, &'static str)> {
        self.suspension.holds_back().then_some((Code::TimeOut, "the replica stood still meanwhile"))
    }

    /// Answers a command that no session gets; one that was wrong from the beginning is told that.
    fn refuse(
        &mut self,
        now: Now,
        ticket: Option<Ticket>,
        command: Result<Command, CommandError>,
        (code, text): (Code, &str),
    ) {
        self.environment.without_session(now, |ctx| match command {
            Ok(command) => {
                let message_id = command.message_id.clone().unwrap_or_else(|| ctx.next_message_id());
                ctx.fail(ticket, command.identity(&message_id), code, text);
            }
            Err(error) => ctx.refuse(ticket, error),
        });
    }

    /// Why a command is not written to a device that is connected, as far as memory goes.
    fn refusal(&self, session: SlotId, command: &Command) -> Option<(Code, &'static str)> {
        if command.closes() {
            return None;
        }
        let (limits, load) = (&self.environment.limits, &self.environment.load);
        let bytes = command.packet_bytes_max();
        if bytes > limits.buffered_bytes() {
            return Some((Code::ParameterError, "the command is larger than all that may wait for devices"));
        }
        let state = &self.connections.slots.find(session)?.state;
        if state.may_send(bytes, limits, load) {
            return None;
        }
        let does_read = state.output.unsent.is_empty();
        let text = if does_read { "too much waits for devices" } else { "the device does not read what it was sent" };
        Some((Code::SystemBusy, text))
    }

    /// Remembers when a session's commands are looked at.
    fn note_deadline(&mut self, deadline_us: u64, session: SlotId) {
        if self.deadlines.note(deadline_us, session, self.environment.load.commands) {
            let connections = self.connections.slots.iter();
            self.deadlines.replace(connections.flat_map(|connection| {
                let deadlines = connection.state.session.command_deadlines();
                deadlines.map(|deadline_us| (deadline_us, connection.slot))
            }));
        }
    }

    /// Ends the waiting of commands whose time is over.
    pub(super) fn expire_commands(&mut self, now: Now) {
        while let Some(session) = self.deadlines.due(now.us) {
            self.act(now, session, |state, ctx| state.session.expire(ctx));
        }
        let Self { environment, deadlines, .. } = self;
        for orphaned in deadlines.orphaned_due(now.us) {
            environment.without_session(now, |ctx| ctx.expire(orphaned));
        }
    }

    /// Notices that the process was suspended; commands are held back then.
    pub(super) fn look_for_suspension(&mut self, now: Now) {
        if self.replica.cluster_events.is_none() {
            return;
        }
        let Some(barrier) = self.suspension.look(now.us) else { return };
        tracing::warn!(
            worker = self.replica.index,
            "the process stood still: no command is delivered until what was missed is known"
        );
        self.replica.ask_for_claims();
        if !self.environment.downlink.send_barrier(barrier) {
            self.suspension.barriers.note_returned(barrier);
        }
    }
}
