//! PUBLISH packets of the device.

use super::context::{Context, Event};
use super::window::Acknowledgement;
use super::{EXCHANGES_MAX, Ending, Session, StoredWill};
use crate::codec::mqtt::{Publish, PublishHead, Qos, encode};
use crate::protocol::envelope::Reason;
use crate::protocol::id::ProductId;
use crate::protocol::message::{self, Message};
use crate::protocol::topic::{self, MessageKind, Route};
use crate::protocol::translate::{Published, Rejected, Translated, translate};
use crate::protocol::uplink::Channel;

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
        self.take_in(head.topic, payload, acknowledgement, ctx);
    }

    /// Publishes the will like a PUBLISH of QoS 0.
    pub(super) fn publish_will(&mut self, will: &StoredWill, ctx: &mut Context<'_>) {
        self.take_in(&will.topic, Some(&will.payload), Acknowledgement::None, ctx);
    }

    fn take_in(&mut self, topic: &str, payload: Option<&[u8]>, owed: Acknowledgement, ctx: &mut Context<'_>) {
        let published = Published {
            product: self.product.as_str(),
            device: self.device.as_str(),
            topic,
            payload,
            packet_bytes_max: ctx.limits.packet_bytes,
            now_ms: ctx.now.unix_ms,
        };
        match translate(published, ctx.children) {
            Translated::Message { route, message, about_product } => {
                self.message(&route, &message, about_product.as_ref(), owed, ctx);
            }
            Translated::TimeSync(answer) => {
                ctx.observer.event(Event::Received(MessageKind::TimeSync));
                let reply = topic::time_sync_reply(self.product.as_str(), self.device.as_str());
                let head =
                    PublishHead { dup: false, qos: Qos::AtMostOnce, retain: false, topic: &reply, packet_id: None };
                encode::publish(ctx.send, &Publish { head, payload: &answer });
                self.hold(None, None, owed, ctx);
            }
            Translated::Rejected(rejected) => self.reject(&rejected, owed, ctx),
            Translated::Foreign => {
                ctx.observer.event(Event::Foreign { topic });
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
                if ctx.downlink.is_uplink() {
                    record.payload = outcome.payload;
                    record.attributes = outcome.attributes;
                    ctx.note_outcome(pending, None);
                } else {
                    ctx.conclude(pending, outcome, None);
                }
                record
            }
        };
        // Its address may be longer than the queue takes.
        ctx.observer.event(match record.channel {
            Channel::Rejected => Event::Rejected { kind, reason: Reason::TooLarge, topic },
            Channel::Device | Channel::Replica => Event::Received(kind),
        });
        let span = ctx.encoder.span(&record, &source, route.about(), route.message_type.dotted(), parent);
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
        ctx.observer.event(Event::Rejected { kind: rejected.kind, reason: rejection.reason, topic: rejection.topic });
        let trace = ctx.encoder.tracer.begin(None);
        let source = self.source(None);
        let record = ctx.encoder.rejected(&source, &rejection, trace);
        let span = ctx.encoder.span(&record, &source, source.device, "rejected", None);
        self.hold(Some(record), span, owed, ctx);
    }
}
