//! Messages of the device: from PUBLISH to the window, and from the receipt to PUBACK or PUBREC.

use super::context::{Context, DropReason, Event};
use super::ending::Phase;
use super::window::{Acknowledgement, Settled};
use super::{EXCHANGES_MAX, Ending, Session, StoredWill};
use crate::codec::mqtt::{Publish, PublishHead, Qos, encode};
use crate::protocol::envelope::{Cause, Reason, Rejection, Replacement, subject_too_long};
use crate::protocol::id::ProductId;
use crate::protocol::limit::Load;
use crate::protocol::message::{self, Message};
use crate::protocol::topic::{self, MessageKind, Route};
use crate::protocol::trace::Span;
use crate::protocol::translate::{Published, Rejected, Translated, translate};
use crate::protocol::uplink::{Channel, Record, RecordRefusal};
use crate::session::step::{Action, Carrier, StoredAnswer};

impl Session {
    /// Handles a PUBLISH; `payload` is `None` when it was too large to be read.
    pub fn publish(&mut self, head: &PublishHead<'_>, payload: Option<&[u8]>, ctx: &mut Context<'_>) {
        let acknowledgement = match (head.qos, head.packet_id) {
            (Qos::AtLeastOnce, Some(id)) => Acknowledgement::Puback(id),
            (Qos::ExactlyOnce, Some(id)) => match self.exchanges.iter().find(|(open, _)| *open == id) {
                // Stored, and the device has not released it: it did not see PUBREC.
                Some((_, true)) => return ctx.send.extend_from_slice(&encode::pubrec(id)),
                Some((_, false)) => return,
                None if self.exchanges.len() == EXCHANGES_MAX => return self.end(Ending::ProtocolError, ctx),
                None => {
                    self.exchanges.push((id, false));
                    Acknowledgement::Pubrec(id)
                }
            },
            _ => Acknowledgement::None,
        };
        self.take_in(head.topic, payload, Carrier::Publish(head.qos, head.packet_id), acknowledgement, ctx);
    }

    /// Publishes the will like a PUBLISH of QoS 0.
    pub(super) fn publish_will(&mut self, will: &StoredWill, ctx: &mut Context<'_>) {
        self.take_in(&will.topic, Some(&will.payload), Carrier::Will, Acknowledgement::None, ctx);
    }

    fn take_in(
        &mut self,
        topic: &str,
        payload: Option<&[u8]>,
        by: Carrier,
        owed: Acknowledgement,
        ctx: &mut Context<'_>,
    ) {
        let published = Published {
            product: self.product.as_str(),
            device: self.device.as_str(),
            topic,
            payload,
            packet_bytes_max: ctx.limits.packet_bytes,
            now_ms: ctx.now.unix_ms,
        };
        let translated = translate(published, ctx.children);
        if ctx.is_followed {
            let about = match &translated {
                Translated::Message { route, .. } => route.about(),
                _ => self.device.as_str(),
            };
            self.tell(about, Action::Publish { topic, by, payload }, ctx);
        }
        match translated {
            Translated::Message { route, message, about_product } => {
                self.message(&route, &message, about_product.as_ref(), owed, ctx);
            }
            Translated::TimeSync(answer) => {
                ctx.observer.event(Event::Received(MessageKind::TimeSync));
                let reply = topic::time_sync_reply(self.product.as_str(), self.device.as_str());
                let head =
                    PublishHead { dup: false, qos: Qos::AtMostOnce, retain: false, topic: &reply, packet_id: None };
                encode::publish(ctx.send, &Publish { head, payload: &answer });
                if ctx.is_followed {
                    self.tell(self.device.as_str(), Action::TimeSync, ctx);
                }
                self.hold(None, None, owed, ctx);
            }
            Translated::Rejected(rejected) => self.reject(&rejected, owed, ctx),
            Translated::Foreign => {
                ctx.observer.event(Event::Foreign { topic });
                if ctx.is_followed {
                    self.tell(self.device.as_str(), Action::Foreign { topic }, ctx);
                }
                self.end(Ending::ProtocolError, ctx);
            }
        }
    }

    fn message(
        &mut self,
        route: &Route<'_>,
        message: &Message<'_>,
        about_product: Option<&ProductId>,
        owed: Acknowledgement,
        ctx: &mut Context<'_>,
    ) {
        let (kind, topic) = (MessageKind::Type(route.message_type), route.topic);
        let answered = if self.pending.is_empty() {
            None
        } else {
            message.message_id().and_then(|id| self.pending.answered(route, &id))
        };
        let source = self.source(about_product.map(ProductId::as_str));
        let parent = answered.as_ref().and_then(|pending| pending.identity.trace);
        let trace = ctx.encoder.tracer.begin(parent);
        let record = match answered {
            None => ctx.encoder.device(&source, route, message, trace),
            Some(pending) => {
                let caller = (pending.identity.correlation(), pending.identity.trace);
                let (mut record, outcome) = ctx.encoder.reply(&source, route, message, trace, caller);
                if ctx.downlink.is_uplink(pending.ticket) {
                    record.payload = outcome.payload;
                    record.attributes = outcome.attributes;
                    ctx.note_outcome(pending, None, "");
                } else {
                    ctx.conclude(pending, outcome, None);
                }
                record
            }
        };
        match record.channel {
            // Its address would be longer than the queue takes.
            Channel::Rejected => {
                let detail = &subject_too_long();
                ctx.observer.event(Event::Rejected { kind, reason: Reason::TooLarge, topic, detail });
            }
            Channel::Device | Channel::Replica => ctx.observer.event(Event::Received(kind)),
        }
        let span = ctx.encoder.span(&record, &source, route.about(), route.message_type.dotted(), parent);
        if ctx.is_followed {
            self.tell(route.about(), Action::Envelope(&record), ctx);
        }
        self.hold(Some(record), span, owed, ctx);
    }

    fn reject(&mut self, rejected: &Rejected<'_>, owed: Acknowledgement, ctx: &mut Context<'_>) {
        let rejection = rejected.rejection();
        // The caller of the command need not wait for the time-out: the device has answered, but not legibly.
        if let (Some(route), Some(payload)) = (&rejected.route, rejection.payload)
            && !self.pending.is_empty()
            && let Some(id) = message::message_id(payload)
            && let Some(pending) = self.pending.answered(route, &id)
        {
            ctx.fail_undecodable(pending, rejection.detail);
        }
        let Rejection { reason, topic, detail, .. } = rejection;
        ctx.observer.event(Event::Rejected { kind: rejected.kind, reason, topic, detail });
        let trace = ctx.encoder.tracer.begin(None);
        let source = self.source(None);
        let record = ctx.encoder.rejected(&source, &rejection, trace);
        let span = ctx.encoder.span(&record, &source, source.device, "rejected", None);
        if ctx.is_followed {
            self.tell(self.device.as_str(), Action::Envelope(&record), ctx);
        }
        self.hold(Some(record), span, owed, ctx);
    }

    /// Adds an entry to the window, and hands its record over.
    pub(super) fn hold(
        &mut self,
        record: Option<Record>,
        span: Option<Box<Span>>,
        kind: Acknowledgement,
        ctx: &mut Context<'_>,
    ) {
        ctx.load.held_bytes += record.as_ref().map_or(0, Record::held_bytes);
        ctx.load.held_records += 1;
        self.window.take_buffer(ctx.spare_buffers);
        self.window.push(record, span, kind, ctx.now.us, ctx.uplink);
        // An entry without a record that is the first one can be acknowledged at once.
        self.acknowledge(ctx);
    }

    /// Notes a receipt of the queue, which came at `now_us`; [`Session::acknowledge`] must follow.
    pub fn receipt(&mut self, sequence: u16, stored: bool, now_us: u64) {
        self.window.settle(sequence, stored, now_us);
    }

    /// Replaces a record that the queue refuses for good by a rejected envelope. A record that has no replacement counts as
    /// failed for now.
    pub fn refused(&mut self, sequence: u16, refusal: &RecordRefusal, ctx: &mut Context<'_>) {
        let Some(record) = self.window.refused(sequence) else {
            // The fate of withdrawn presence is known now; any other entry is left as it is.
            self.window.settle(sequence, false, ctx.now.us);
            return self.acknowledge(ctx);
        };
        let held_bytes = record.held_bytes();
        let Some(replacement) = ctx.encoder.replacement(record, refusal) else {
            return self.window.settle(sequence, false, ctx.now.us);
        };
        let Replacement { record, kind, reason, topic } = replacement;
        ctx.load.held_bytes = ctx.load.held_bytes.saturating_sub(held_bytes) + record.held_bytes();
        let cause = refusal.cause();
        ctx.observer.event(Event::RefusedByQueue { kind, reason, topic: &topic, cause });
        if ctx.is_followed {
            self.tell(self.device.as_str(), Action::Envelope(&record), ctx);
        }
        self.window.replace(sequence, record, ctx.now.us, ctx.uplink);
    }

    /// Acknowledges stored messages to the device, in the order of receipt.
    pub fn acknowledge(&mut self, ctx: &mut Context<'_>) {
        while let Some(settled) = self.pop(ctx) {
            release(&settled, ctx.load);
            if settled.acknowledgement == Acknowledgement::Presence {
                match (self.phase, settled.late) {
                    (Phase::Serving | Phase::Draining(_), _) => self.presence.stored(ctx.now.us),
                    (Phase::Ended(_), Some(fate)) => self.presence.stored_after_end(fate, ctx.now.us),
                    (Phase::Ended(_), None) => {}
                }
            }
            if let Some(queue_us) = settled.queue_us.filter(|_| settled.acknowledgement != Acknowledgement::Presence) {
                let latency_us = ctx.now.us.saturating_sub(settled.taken_us);
                ctx.observer.event(Event::Stored { latency_us, queue_us });
                ctx.encoder.tracer.end(settled.span, latency_us, None);
            }
            match settled.acknowledgement {
                _ if self.has_ended() => {}
                Acknowledgement::None | Acknowledgement::Presence => {}
                Acknowledgement::Puback(id) => ctx.send.extend_from_slice(&encode::puback(id)),
                Acknowledgement::Pubrec(id) => {
                    if let Some(exchange) = self.exchanges.iter_mut().find(|(open, _)| *open == id) {
                        exchange.1 = true;
                    }
                    ctx.send.extend_from_slice(&encode::pubrec(id));
                }
            }
        }
        if !self.window.is_empty() {
            return;
        }
        self.window.give_buffer_back(ctx.spare_buffers);
        match self.phase {
            Phase::Draining(ending) => self.end(ending, ctx),
            Phase::Ended(Ending::TakenOver) => {
                if self.presence.take_owed_offline() {
                    self.announce_end(Cause::SupersededByPolicy, ctx);
                }
            }
            Phase::Serving | Phase::Ended(_) => {}
        }
    }

    /// Takes the front entry out of the window if it waits for no receipt.
    fn pop(&mut self, ctx: &mut Context<'_>) -> Option<Settled> {
        if ctx.is_followed
            && let Some((record, acknowledgement, taken_us, queue_us)) = self.window.front_stored()
        {
            let answer = match acknowledgement {
                _ if self.has_ended() => StoredAnswer::None,
                Acknowledgement::None | Acknowledgement::Presence => StoredAnswer::None,
                Acknowledgement::Puback(id) => StoredAnswer::Puback(id),
                Acknowledgement::Pubrec(id) => StoredAnswer::Pubrec(id),
            };
            let latency_us = ctx.now.us.saturating_sub(taken_us);
            self.tell(self.device.as_str(), Action::Stored { record, latency_us, queue_us, answer }, ctx);
        }
        self.window.pop()
    }

    /// Sends the records that are not stored once more: the queue takes records again.
    pub fn resend(&mut self, ctx: &mut Context<'_>) {
        self.window.resend(ctx.now.us, ctx.uplink);
        self.acknowledge(ctx);
    }

    /// Sends the records that are not stored once more if one failed although the queue takes others.
    pub fn retry(&mut self, ctx: &mut Context<'_>) {
        if self.window.is_stalled() {
            self.resend(ctx);
        }
    }

    /// Drops the messages of the device that wait for the queue; presence is kept.
    pub(super) fn abandon(&mut self, ctx: &mut Context<'_>) {
        let Context { load, observer, uplink, encoder, now, .. } = ctx;
        let mut messages = 0;
        self.window.abandon(now.us, *uplink, |settled| {
            release(&settled, load);
            observer.event(match settled.acknowledgement {
                Acknowledgement::None => Event::Dropped(DropReason::AckTimeout),
                _ => Event::Unacknowledged,
            });
            messages += 1;
            let held_us = now.us.saturating_sub(settled.taken_us);
            encoder.tracer.end(settled.span, held_us, Some("ack_timeout"));
        });
        if ctx.is_followed && messages > 0 {
            self.tell(self.device.as_str(), Action::GivenUp { messages }, ctx);
        }
        // Withdrawn presence waits for no receipt any more.
        self.acknowledge(ctx);
    }
}

fn release(settled: &Settled, load: &mut Load) {
    load.held_bytes = load.held_bytes.saturating_sub(settled.held_bytes);
    load.held_records = load.held_records.saturating_sub(1);
}
