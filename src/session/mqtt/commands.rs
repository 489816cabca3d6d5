//! Commands: they are written to the device and answered to their callers.

use super::context::{Context, Event};
use super::pending::{Awaits, Pending};
use super::{Ending, Phase, Session};
use crate::codec::mqtt::{PacketId, Publish, PublishHead, Qos, encode};
use crate::protocol::child;
use crate::protocol::command::{Command, CommandError, CommandIdentity};
use crate::protocol::downlink::{Code, Outcome, Ticket};
use crate::protocol::trace::{Span, TraceContext};
use crate::session::step::{Action, Step};

/// Text for the caller when as many commands wait as may.
const TOO_MANY: &str = "too many commands wait";

impl Session {
    /// Writes a command to the device, or answers at once why not. Returns the deadline of a command that waits. Commands
    /// are written in the order of these calls.
    pub fn command(
        &mut self,
        ticket: Option<Ticket>,
        command: Result<Command, CommandError>,
        ctx: &mut Context<'_>,
    ) -> Option<u64> {
        let mut command = match command {
            Ok(command) => command,
            Err(error) => {
                ctx.refuse(ticket, error);
                return None;
            }
        };
        let is_addressed = self.readdress(&mut command);
        let message_id = command.message_id.clone().unwrap_or_else(|| ctx.next_message_id());
        let mut identity = command.identity(&message_id);
        ctx.tell(&identity, Action::Command);
        if let Err((code, text)) = self.admit(&command, is_addressed, &message_id, ctx) {
            ctx.fail(ticket, identity, code, text);
            return None;
        }
        // A command that does not wait holds no memory; DISCONNECT even frees what its device holds.
        let waits = ticket.filter(|_| !command.closes() && !command.send_and_forget);
        let held_bytes = waits.map_or(0, |ticket| Pending::bytes(&identity) + ctx.downlink.held_bytes(ticket));
        if !ctx.load.takes_command(held_bytes, ctx.limits) {
            ctx.fail(ticket, identity, Code::SystemBusy, TOO_MANY);
            return None;
        }
        let (trace, span) = ctx.begin_command(command.trace, || identity.clone());
        identity.trace = trace;
        if command.closes() {
            ctx.encoder.tracer.end(span, 0, None);
            match ticket {
                Some(ticket) => {
                    let outcome = ctx.encoder.disconnected(&identity);
                    ctx.answer(ticket, Some(&identity), outcome, Code::RequestHandling);
                }
                None => ctx.observer.event(Event::NoCaller),
            }
            self.end(Ending::Kicked, ctx);
            return None;
        }
        #[expect(clippy::cast_possible_wrap, reason = "ms since 1970 fit for 292 million years")]
        let timestamp = command.timestamp.unwrap_or(ctx.now.unix_ms as i64);
        let packet = command.downlink(&message_id, timestamp);
        let qos = self.subscriptions.qos(&packet.topic);
        let packet_id = (qos != Qos::AtMostOnce).then(|| self.pending.free_packet_id());
        let head = PublishHead { dup: false, qos, retain: false, topic: &packet.topic, packet_id };
        encode::publish(ctx.send, &Publish { head, payload: &packet.body });
        ctx.tell(&identity, |identity| Action::Send { identity, topic: &packet.topic, qos, payload: &packet.body });

        let Some(ticket) = ticket else {
            ctx.observer.event(Event::NoCaller);
            ctx.encoder.tracer.end(span, 0, None);
            return None;
        };
        let needs_no_reply = command.is_async || command.message_type.reply().is_none();
        let awaits = if needs_no_reply { Awaits::Puback } else { Awaits::Reply };
        if command.send_and_forget || needs_no_reply && packet_id.is_none() {
            ctx.encoder.tracer.end(span, 0, None);
            let outcome = ctx.encoder.accepted(&identity);
            ctx.answer(ticket, Some(&identity), outcome, Code::RequestHandling);
            return None;
        }
        let timeout_ms = command.timeout_ms.unwrap_or(ctx.limits.command_timeout_ms);
        let deadline_us = ctx.now.us.saturating_add(timeout_ms.saturating_mul(1000));
        let held_bytes = held_bytes + span.as_deref().map_or(0, Span::held_bytes);
        ctx.load.commands += 1;
        ctx.load.command_bytes += held_bytes;
        self.pending.push(Pending {
            ticket,
            identity,
            awaits,
            packet_id,
            taken_us: ctx.now.us,
            deadline_us,
            span,
            end: 0,
            held_bytes,
        });
        Some(deadline_us)
    }

    /// Answers TIME_OUT for the commands whose deadline has passed.
    pub fn expire(&mut self, ctx: &mut Context<'_>) {
        for pending in self.pending.expired(ctx.now.us) {
            ctx.expire(pending);
        }
    }

    /// Takes the waiting commands out. Those of a session that was taken over end at their deadlines in the worker.
    pub fn take_pending(&mut self) -> Vec<Pending> {
        self.pending.take()
    }

    /// Notes the number of bytes that were written to the device up to the last one of the newest waiting command.
    pub fn note_command_end(&mut self, end: u64) {
        self.pending.note_end(end);
    }

    /// Deadlines of the commands that wait for an outcome, us of the worker's clock.
    pub fn command_deadlines(&self) -> impl Iterator<Item = u64> + '_ {
        self.pending.deadlines_us()
    }

    pub(super) fn puback(&mut self, id: PacketId, ctx: &mut Context<'_>) {
        if let Some(pending) = self.pending.acknowledged(id) {
            let outcome = ctx.encoder.accepted(&pending.identity);
            ctx.conclude(pending, outcome, Code::RequestHandling);
        }
    }

    pub(super) fn fail_pending(&mut self, ctx: &mut Context<'_>) {
        for pending in self.pending.take() {
            ctx.lose(pending);
        }
    }

    /// Completes the address of a command: a child may be addressed without its gateway, or by its own product. Returns
    /// whether the address belongs to this session.
    fn readdress(&self, command: &mut Command) -> bool {
        let bound = |id: &str| self.children.iter().find(|child| child.id.as_str() == id);
        if command.device != self.device.as_str() {
            let Some(child) = bound(&command.device).filter(|child| child.product.as_str() == command.product) else {
                return false;
            };
            command.children.insert(0, child.id.to_string());
            command.device = self.device.to_string();
        } else if command.product != self.product.as_str() {
            let child = command.children.last().and_then(|id| bound(id));
            if child.is_none_or(|child| child.product.as_str() != command.product) {
                return false;
            }
        }
        command.product = self.product.to_string();
        let about = command.children.last().and_then(|id| bound(id));
        command.about_product = about.map(|child| child.product.to_string());
        true
    }

    fn admit(
        &self,
        command: &Command,
        is_addressed: bool,
        message_id: &str,
        ctx: &Context<'_>,
    ) -> Result<(), (Code, &'static str)> {
        if !is_addressed {
            return Err((Code::ClientOffline, "the device is not connected under this product"));
        }
        if self.phase != Phase::Serving {
            return Err((Code::ConnectionLost, "the session is ending"));
        }
        if command.timeout_ms.is_some_and(|timeout_ms| timeout_ms > ctx.limits.command_timeout_max_ms) {
            return Err((Code::ParameterError, "header timeout is longer than commands.timeout_max"));
        }
        if child::product_below(ctx.children, self.device.as_str(), &command.children).is_err() {
            return Err((Code::ParameterError, "the registry binds this child elsewhere"));
        }
        if self.pending.contains(&command.children, message_id) {
            return Err((Code::ParameterError, "a command with this messageId is in flight"));
        }
        if self.pending.len() >= ctx.limits.commands_per_device || ctx.load.commands >= ctx.limits.commands {
            return Err((Code::SystemBusy, TOO_MANY));
        }
        Ok(())
    }
}

impl Context<'_> {
    /// Answers a command that was unreadable or invalid when its queue read it.
    pub fn refuse(&mut self, ticket: Option<Ticket>, mut error: CommandError) {
        let (parent, now) = (*error.trace_mut(), self.now);
        *error.trace_mut() = self.encoder.tracer.begin(parent);
        let span = Span::of_command(*error.trace_mut(), parent, error.identity(), now);
        let outcome = self.encoder.refused(&error);
        let code = outcome.failure.as_ref().map_or(Code::ParameterError, |(code, _)| *code);
        self.encoder.tracer.end(span, 0, Some(code.as_str()));
        let Some(ticket) = ticket else { return self.observer.event(Event::NoCaller) };
        if let CommandError::Unreadable(..) = error {
            self.observer.event(Event::Unreadable);
            return self.downlink.answer(ticket, outcome);
        }
        self.answer(ticket, error.identity(), outcome, code);
    }

    /// Answers a command that failed before it was written.
    pub fn fail(&mut self, ticket: Option<Ticket>, mut identity: CommandIdentity, code: Code, text: &str) {
        let (trace, span) = self.begin_command(identity.trace, || identity.clone());
        identity.trace = trace;
        self.encoder.tracer.end(span, 0, Some(code.as_str()));
        let Some(ticket) = ticket else { return self.observer.event(Event::NoCaller) };
        let outcome = self.encoder.failure(&identity, code, text);
        self.answer(ticket, Some(&identity), outcome, code);
    }

    /// Answers TIME_OUT: no reply came in time.
    pub fn expire(&mut self, pending: Pending) {
        let outcome = self.encoder.failure(&pending.identity, Code::TimeOut, "no reply in time");
        self.conclude(pending, outcome, Code::TimeOut);
    }

    /// Answers CONNECTION_LOST: the connection ended before the reply.
    pub fn lose(&mut self, pending: Pending) {
        let text = "the connection ended before the reply";
        let outcome = self.encoder.failure(&pending.identity, Code::ConnectionLost, text);
        self.conclude(pending, outcome, Code::ConnectionLost);
    }

    /// Answers PARAMETER_ERROR: the device's reply cannot be decoded.
    pub(super) fn fail_undecodable(&mut self, pending: Pending, detail: &str) {
        let text = format!("the device's reply cannot be read: {detail}");
        let outcome = self.encoder.failure(&pending.identity, Code::ParameterError, &text);
        self.conclude(pending, outcome, Code::ParameterError);
    }

    /// A new message id for a command without one.
    pub fn next_message_id(&mut self) -> String {
        self.message_ids.next(self.now.unix_ms)
    }

    /// Answers a waiting command; `code` is the bridge's own, `None` for the device's reply.
    pub(super) fn conclude(&mut self, pending: Pending, outcome: Outcome, code: impl Into<Option<Code>>) {
        let ticket = pending.ticket;
        self.note_outcome(pending, code.into(), failure_text(&outcome));
        self.downlink.answer(ticket, outcome);
    }

    /// Counts the outcome of a waiting command and releases its memory; the caller sends the outcome.
    pub(super) fn note_outcome(&mut self, pending: Pending, code: Option<Code>, text: &str) {
        self.load.commands = self.load.commands.saturating_sub(1);
        self.load.release_command(pending.held_bytes);
        let latency_us = self.now.us.saturating_sub(pending.taken_us);
        self.observer.event(Event::Outcome { code, latency_us });
        self.tell(&pending.identity, |identity| Action::Outcome { identity, code, text, latency_us });
        let failure = code.filter(|code| *code != Code::RequestHandling).map(Code::as_str);
        self.encoder.tracer.end(pending.span, latency_us, failure);
    }

    /// Begins the trace context of a command, and its span where the trace is sampled.
    fn begin_command(
        &mut self,
        parent: Option<TraceContext>,
        identity: impl FnOnce() -> CommandIdentity,
    ) -> (Option<TraceContext>, Option<Box<Span>>) {
        let trace = self.encoder.tracer.begin(parent);
        let is_sampled = trace.is_some_and(|trace| trace.sampled);
        let span = is_sampled.then(|| Span::of_command(trace, parent, Some(&identity()), self.now));
        (trace, span.flatten())
    }

    /// Answers a command that did not wait.
    fn answer(&mut self, ticket: Ticket, identity: Option<&CommandIdentity>, outcome: Outcome, code: Code) {
        self.observer.event(Event::Outcome { code: Some(code), latency_us: 0 });
        if let Some(identity) = identity {
            let (code, text) = (Some(code), failure_text(&outcome));
            self.tell(identity, |identity| Action::Outcome { identity, code, text, latency_us: 0 });
        }
        self.downlink.answer(ticket, outcome);
    }

    /// Tells those who follow a device of a step of a command, if somebody does.
    fn tell<'i>(&mut self, identity: &'i CommandIdentity, action: impl FnOnce(&'i CommandIdentity) -> Action<'i>) {
        if self.is_followed {
            let CommandIdentity { product, device, .. } = identity;
            self.observer.step(&Step { product, device, about: identity.about(), action: action(identity) });
        }
    }
}

fn failure_text(outcome: &Outcome) -> &str {
    outcome.failure.as_ref().map_or("", |(_, text)| text)
}
