//! What ends a request: the queue, a deadline, the device.

use super::{ENDPOINT_BIT, Endpoint, NUMBER_SHIFT};
use crate::codec::coap::{Code, Kind};
use crate::protocol::uplink::{Handover, Token};
use crate::session::coap::demand::Demand;
use crate::session::coap::exchange::{Answer, Apart, Caller, Exchange, ExchangeId, Queued, Stage};
use crate::session::coap::seen::Sighting;
use crate::session::coap::{Context, DropReason, Event, PeerKey};
use crate::session::mqtt::Event as MessageEvent;

/// ACK_TIMEOUT: an answer of its own is sent again after this, at least; at most half as much later.
const ACK_TIMEOUT_US: u64 = 2_000_000;

/// MAX_RETRANSMIT: how often it is sent again, each time after twice the time before.
const RETRANSMISSIONS_MAX: u8 = 4;

/// Max-Age of 5.03, in seconds: when the device may try again.
const RETRY_SECS: u32 = 5;

impl Endpoint {
    /// The peer has an answer of its own, or does not want it.
    pub(super) fn confirm(&mut self, peer: PeerKey, id: u16) {
        self.end_answers(peer, |_, apart| apart.id == id);
    }

    /// The peer has used id and token of earlier requests for another one: it has restarted, and would take an answer
    /// that is still being sent to it for the answer to what it asks now.
    pub(super) fn end_answers_like(&mut self, caller: &Caller) {
        self.end_answers(caller.peer, |other, _| other.request.is_like(&caller.request));
    }

    /// Ends the sending of answers of their own.
    fn end_answers(&mut self, peer: PeerKey, is_meant: impl Fn(&Caller, &Apart) -> bool) {
        let exchanges = &mut self.exchanges;
        let is_meant = |exchange_id: &ExchangeId| {
            exchanges.get(*exchange_id).is_some_and(|exchange| match &exchange.stage {
                Stage::Apart(apart) => is_meant(&exchange.caller, apart),
                _ => false,
            })
        };
        let ended: Vec<ExchangeId> = self.seen.open_of(peer).filter(is_meant).collect();
        ended.into_iter().for_each(|exchange_id| self.end_apart(exchange_id));
    }

    /// Takes a request out of its waiting for the registry.
    pub(super) fn unpark(&mut self, exchange_id: ExchangeId, ctx: &mut Context<'_>) -> Option<Demand> {
        let exchange = self.exchanges.get(exchange_id).filter(|exchange| matches!(exchange.stage, Stage::Lookup(_)))?;
        let Stage::Lookup(demand) = std::mem::replace(&mut exchange.stage, Stage::Judged) else { return None };
        let bytes = demand.held_bytes();
        self.parked -= 1;
        self.parked_bytes -= bytes;
        ctx.load.held_bytes = ctx.load.held_bytes.saturating_sub(bytes);
        Some(*demand)
    }

    /// Hands a record over.
    pub(super) fn write(&mut self, exchange_id: ExchangeId, mut queued: Queued, ctx: &mut Context<'_>) {
        let Some(exchange) = self.exchanges.get(exchange_id) else { return };
        match ctx.uplink.publish(token(self.settings.number, exchange_id, queued.sequence), &queued.record) {
            Handover::Taken => {
                ctx.load.held_bytes += queued.record.held_bytes();
                ctx.load.held_records += 1;
                if let Some(span) = &mut queued.span {
                    // The request came before the registry was asked.
                    span.start_us = span.start_us.saturating_sub(ctx.now.us.saturating_sub(exchange.arrived_us));
                }
                exchange.stage = Stage::Queued(Box::new(queued));
                self.queued += 1;
            }
            Handover::Refused => {
                let held_us = ctx.now.us.saturating_sub(exchange.arrived_us);
                ctx.encoder.tracer.end(queued.span, held_us, Some("queue_away"));
                self.give_up(exchange_id, DropReason::QueueAway, ctx);
            }
        }
    }

    /// Takes a request out of its waiting for the queue.
    pub(super) fn unqueue(&mut self, exchange_id: ExchangeId, ctx: &mut Context<'_>) -> Option<Queued> {
        let exchange = self.exchanges.get(exchange_id).filter(|exchange| matches!(exchange.stage, Stage::Queued(_)))?;
        let Stage::Queued(queued) = std::mem::replace(&mut exchange.stage, Stage::Judged) else { return None };
        ctx.load.held_bytes = ctx.load.held_bytes.saturating_sub(queued.record.held_bytes());
        ctx.load.held_records = ctx.load.held_records.saturating_sub(1);
        self.queued -= 1;
        Some(*queued)
    }

    /// Answers 5.03: the device must send its message again.
    pub(super) fn give_up(&mut self, exchange_id: ExchangeId, reason: DropReason, ctx: &mut Context<'_>) {
        drop(self.unpark(exchange_id, ctx));
        let mut queued = self.unqueue(exchange_id, ctx);
        let Some(exchange) = self.exchanges.get(exchange_id) else { return };
        if let Some(queued) = &mut queued {
            let failure = if reason == DropReason::AckTimeout { "ack_timeout" } else { "queue_away" };
            let held_us = ctx.now.us.saturating_sub(exchange.arrived_us);
            ctx.encoder.tracer.end(queued.span.take(), held_us, Some(failure));
        }
        let Caller { peer, confirmable, .. } = exchange.caller;
        let device = queued.as_ref().map_or("", |queued| queued.device.as_str());
        if !confirmable {
            ctx.observer.event(peer, device, Event::Dropped(reason));
        } else if queued.is_some() {
            ctx.observer.event(peer, device, Event::Message(MessageEvent::Unacknowledged));
        }
        // What was handed over may have been stored: a duplicate must not be written a second time.
        self.conclude(exchange_id, unavailable(), queued.is_some(), ctx);
    }

    /// Answers a request. When `remember`, a duplicate gets the same; else it is treated as new, and nobody waits for an
    /// acknowledgement of the answer.
    pub(super) fn conclude(
        &mut self,
        exchange_id: ExchangeId,
        mut answer: Answer,
        remember: bool,
        ctx: &mut Context<'_>,
    ) {
        let jitter_us = self.jitter_us();
        let Some(exchange) = self.exchanges.get(exchange_id) else { return };
        let (caller, acknowledged) = (exchange.caller, exchange.acknowledged);
        if answer.code != Code::REQUEST_ENTITY_TOO_LARGE {
            answer.block = exchange.block;
        }
        ctx.observer.event(caller.peer, "", Event::Answered(answer.code));
        let kind = match acknowledged {
            true if remember => Kind::Confirmable,
            true => Kind::NonConfirmable,
            false => caller.kind_at_once(),
        };
        let id = self.answer_id(&caller, kind);
        let datagram = caller.encode(kind, id, &answer);
        ctx.send.push(caller.peer, &datagram);
        if acknowledged && remember {
            let Some(exchange) = self.exchanges.get(exchange_id) else { return };
            let timeout_us = ACK_TIMEOUT_US + jitter_us;
            let due_us = ctx.now.us + timeout_us;
            exchange.stage = Stage::Apart(Box::new(Apart { id, datagram, retransmissions: 0, timeout_us, due_us }));
            return;
        }
        let sighting = match (acknowledged, remember) {
            // After an empty ACK no answer may travel in an ACK, not even for a duplicate (RFC 7252 section 5.2.2).
            (true, _) => Some(Sighting::AnsweredApart(datagram.into())),
            (false, true) => Some(Sighting::Answered(datagram.into())),
            (false, false) => None,
        };
        self.seen.close(caller.peer, caller.request, exchange_id, sighting);
        self.exchanges.remove(exchange_id);
    }

    /// Does what is due for a request that is older than an empty ACK.
    pub(super) fn look_at(&mut self, exchange_id: ExchangeId, ctx: &mut Context<'_>) {
        let Some(exchange) = self.exchanges.get(exchange_id) else { return };
        match &mut exchange.stage {
            Stage::Lookup(_) | Stage::Queued(_) | Stage::Judged => {
                let registry = matches!(exchange.stage, Stage::Lookup(_));
                let reason = if registry { DropReason::RegistryAway } else { DropReason::AckTimeout };
                if exchange.arrived_us + ctx.limits.ack_timeout_us <= ctx.now.us {
                    self.give_up(exchange_id, reason, ctx);
                }
            }
            Stage::Apart(apart) if apart.due_us > ctx.now.us => {}
            Stage::Apart(apart) if apart.retransmissions == RETRANSMISSIONS_MAX => self.end_apart(exchange_id),
            Stage::Apart(apart) => {
                apart.retransmissions += 1;
                apart.timeout_us *= 2;
                apart.due_us = ctx.now.us + apart.timeout_us;
                ctx.send.push(exchange.caller.peer, &apart.datagram);
                ctx.observer.event(exchange.caller.peer, "", Event::Retransmitted);
            }
        }
    }

    /// Ends the sending of an answer of its own; a duplicate of the request still gets it.
    fn end_apart(&mut self, exchange_id: ExchangeId) {
        let Some(Exchange { caller, stage: Stage::Apart(apart), .. }) = self.exchanges.remove(exchange_id) else {
            return;
        };
        let sighting = Sighting::AnsweredApart(apart.datagram.into());
        self.seen.close(caller.peer, caller.request, exchange_id, Some(sighting));
    }

    /// ACK_RANDOM_FACTOR: up to half of ACK_TIMEOUT.
    fn jitter_us(&mut self) -> u64 {
        self.random.below(ACK_TIMEOUT_US / 2)
    }
}

pub(super) fn token(number: u8, exchange_id: ExchangeId, sequence: u16) -> Token {
    let slot = ENDPOINT_BIT | u32::from(number & 0x7f) << NUMBER_SHIFT | exchange_id.slot;
    Token { slot, generation: exchange_id.generation, sequence }
}

pub(super) fn unavailable() -> Answer {
    Answer { max_age_secs: Some(RETRY_SECS), ..Answer::new(Code::SERVICE_UNAVAILABLE) }
}
