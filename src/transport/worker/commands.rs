//! A worker's commands: from the queue to sessions, and what becomes of those whose session ends.

use std::cmp::Reverse;
use std::rc::Rc;

use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::interval;

use super::early::EarlyCommands;
use super::{LOOK, Worker};
use crate::protocol::command::{Command, CommandError};
use crate::protocol::downlink::{Code, DownlinkEvent, Recipient, Ticket};
use crate::protocol::limit::Now;
use crate::protocol::uplink::Token;
use crate::session::mqtt::Pending;
use crate::transport::mqtt::connection::{Connection, State};
use crate::transport::turn::TURN_BYTES;

/// Commands taken in at once.
const COMMANDS_PER_TURN: usize = 256;

/// Deadlines of commands that were answered, kept before they are looked for.
const DEADLINES_SPARE: usize = 4096;

impl Worker {
    /// Takes commands, and the other news of their queue.
    pub(super) async fn take_commands(self: Rc<Self>, mut commands: mpsc::Receiver<DownlinkEvent>) {
        let mut events = Vec::new();
        while commands.recv_many(&mut events, COMMANDS_PER_TURN).await > 0 {
            let mut now = self.core.borrow_mut().now();
            self.look_for_freeze(now);
            let mut taken_bytes = 0;
            for event in events.drain(..) {
                if taken_bytes >= TURN_BYTES {
                    self.core.borrow_mut().uplink.flush();
                    yield_now().await;
                    now = self.core.borrow_mut().now();
                    self.look_for_freeze(now);
                    taken_bytes = 0;
                }
                match event {
                    DownlinkEvent::Attached(token) => {
                        let mut attaching = self.attaching.borrow_mut();
                        if let Some(waiting) = attaching.get_mut(&token).and_then(|own| own.in_place.take()) {
                            // Nobody waits any more when the CONNECT was given up.
                            let _gone = waiting.send(());
                        }
                    }
                    DownlinkEvent::Fenced(number) => {
                        self.fences.borrow_mut().pass(number);
                        self.freeze.borrow_mut().commands_are_here(number);
                    }
                    DownlinkEvent::Command { to, ticket, command } => {
                        taken_bytes += command.as_ref().map_or(0, Command::packet_bytes_max);
                        self.take_command(now, to, ticket, command);
                    }
                    DownlinkEvent::ReplySubjectRefused => self.core.borrow_mut().meter.reply_subject_refused(),
                    DownlinkEvent::Lost(count) => self.core.borrow_mut().meter.commands_lost(count),
                }
            }
            self.core.borrow_mut().uplink.flush();
            if !commands.is_empty() {
                // A receiver that always finds more takes some hundred batches before its task is made to wait.
                yield_now().await;
            }
        }
    }

    /// Carries a command out, or keeps it for a session that is about to begin: the device has its interest in commands
    /// before it knows that it is connected.
    fn take_command(&self, now: Now, to: Recipient, ticket: Option<Ticket>, command: Result<Command, CommandError>) {
        let surplus = if let Recipient::Session(token) = to
            && let Some(early) = self.early.borrow_mut().get_mut(&token)
        {
            let core = &mut *self.core.borrow_mut();
            early.push((ticket, command), &core.limits, &mut core.load)
        } else {
            return self.command(now, &to, ticket, command);
        };
        if let Some((ticket, command)) = surplus {
            self.refuse(now, ticket, command, Code::SystemBusy, "too many commands wait");
        }
    }

    /// Keeps the commands of a session that is about to begin.
    pub(in crate::transport) fn keep_commands(&self, token: Token) {
        self.early.borrow_mut().insert(token, EarlyCommands::default());
    }

    /// Carries out what was kept for a session: it has begun, or never will.
    pub(in crate::transport) fn release_commands(&self, token: Token) {
        let early = self.early.borrow_mut().remove(&token).unwrap_or_default();
        let early = early.take(&mut self.core.borrow_mut().load);
        if !early.is_empty() {
            let now = self.core.borrow_mut().now();
            for (ticket, command) in early {
                self.command(now, &Recipient::Session(token), ticket, command);
            }
        }
    }

    fn command(&self, now: Now, to: &Recipient, ticket: Option<Ticket>, command: Result<Command, CommandError>) {
        let token = match to {
            Recipient::Session(token) => Some(*token),
            Recipient::Ended => None,
            Recipient::Device(device) => {
                let entry = self.directory.find(device.as_str());
                entry.filter(|entry| entry.worker == self.settings.index).map(|entry| entry.token)
            }
        };
        let connection = token.and_then(|token| self.find(token));
        let refusal = match &connection {
            _ if self.freeze.borrow().holds_back() => Some((Code::TimeOut, "the replica stood still meanwhile")),
            None if matches!(to, Recipient::Device(_)) => Some((Code::ClientOffline, "the device is not connected")),
            None => Some((Code::ConnectionLost, "the session has ended")),
            Some(connection) => command.as_ref().ok().and_then(|command| self.refusal(connection, command)),
        };
        match (connection, command, refusal) {
            (Some(connection), command, None) => {
                let deadline_us =
                    self.act_at(now, &connection, |state, ctx| state.session.command(ticket, command, ctx));
                if let Some(deadline_us) = deadline_us {
                    connection.state.borrow_mut().note_command();
                    self.note_deadline(deadline_us, connection.token);
                }
            }
            (_, command, Some((code, text))) => self.refuse(now, ticket, command, code, text),
            (None, _, None) => {}
        }
    }

    /// Answers a command that no session gets; one that was wrong from the beginning is told that.
    fn refuse(&self, now: Now, ticket: Option<Ticket>, command: Result<Command, CommandError>, code: Code, text: &str) {
        self.with_context(now, |ctx| match command {
            Ok(command) => {
                let message_id = command.message_id.clone().unwrap_or_else(|| ctx.next_message_id());
                ctx.fail(ticket, command.identity(&message_id), code, text);
            }
            Err(error) => ctx.refuse(ticket, error),
        });
    }

    /// Why a command is not written to a device that is connected, as far as memory goes.
    fn refusal(&self, connection: &Connection, command: &Command) -> Option<(Code, &'static str)> {
        if command.closes() {
            return None;
        }
        let core = self.core.borrow();
        let bytes = command.packet_bytes_max();
        if bytes > core.limits.buffered_bytes() {
            return Some((Code::ParameterError, "the command is larger than all that may wait for devices"));
        }
        let state = connection.state.borrow();
        if state.may_send(bytes, &core.limits, &core.load) {
            return None;
        }
        let does_read = state.output.is_empty();
        let text = if does_read { "too much waits for devices" } else { "the device does not read what it was sent" };
        Some((Code::SystemBusy, text))
    }

    /// Takes the commands of a session that was taken over: those that were written end at their deadlines. The others
    /// are never written, nor is anything else: the connection of a device that does not read closes like any other.
    pub(super) fn adopt(&self, pending: Vec<Pending>, state: &mut State) {
        let written = state.written();
        let (sent, unsent): (Vec<_>, Vec<_>) = pending.into_iter().partition(|command| command.end <= written);
        self.orphans.borrow_mut().extend(sent);
        state.output = Vec::new();
        let now = self.core.borrow_mut().now();
        for command in unsent {
            self.with_context(now, |ctx| ctx.lose(command));
        }
    }

    /// Remembers when a session's commands are looked at. A command that was answered leaves its deadline behind; when
    /// most are such, they are thrown away.
    fn note_deadline(&self, deadline_us: u64, token: Token) {
        let mut deadlines = self.deadlines.borrow_mut();
        deadlines.push(Reverse((deadline_us, token.to_u64())));
        if deadlines.len() <= 2 * self.core.borrow().load.commands + DEADLINES_SPARE {
            return;
        }
        let connections = self.connections();
        *deadlines = connections
            .iter()
            .flat_map(|connection| {
                let token = connection.token.to_u64();
                let own: Vec<u64> = connection.state.borrow().session.command_deadlines().collect();
                own.into_iter().map(move |deadline_us| Reverse((deadline_us, token)))
            })
            .collect();
    }

    /// Ends the waiting of commands whose time is over.
    pub(super) fn expire_commands(&self, now: Now) {
        loop {
            let due = {
                let mut deadlines = self.deadlines.borrow_mut();
                match deadlines.peek() {
                    Some(Reverse((deadline_us, _))) if *deadline_us <= now.us => deadlines.pop(),
                    _ => None,
                }
            };
            let Some(Reverse((_, token))) = due else { break };
            if let Some(connection) = self.find(Token::from_u64(token)) {
                self.act_at(now, &connection, |state, ctx| state.session.expire(ctx));
            }
        }
        let mut orphans = std::mem::take(&mut *self.orphans.borrow_mut());
        for orphan in orphans.extract_if(.., |orphan| orphan.deadline_us <= now.us) {
            self.with_context(now, |ctx| ctx.expire(orphan));
        }
        self.orphans.borrow_mut().append(&mut orphans);
    }

    /// Waits until the commands that were on their way to sessions that have ended are answered, and every outcome has
    /// arrived: behind the last unsubscription comes the last command, and behind its outcome the second proof.
    pub(super) async fn settle_commands(&self) {
        for _ in 0..2 {
            let mut look = interval(LOOK);
            while !self.core.borrow().downlink.is_settled() {
                look.tick().await;
            }
            let number = self.fences.borrow_mut().ask();
            if !self.core.borrow_mut().downlink.fence(number) {
                return;
            }
            while !self.fences.borrow().has_passed(number) {
                look.tick().await;
            }
        }
    }
}
