//! Ends of a request: by the queue, by a deadline, by the device.

use super::{ENDPOINT_BIT, Endpoint, NUMBER_SHIFT, follow};
use crate::codec::coap::{Code, Kind};
use crate::protocol::uplink::{DeliveryId, Handover, SlotId};
use crate::session::coap::dedup::RequestState;
use crate::session::coap::exchange::{Answer, Caller, Exchange, Queued, SeparateResponse, Stage};
use crate::session::coap::request::Request;
use crate::session::coap::{Context, DropReason, Event, PeerKey};
use crate::session::mqtt::Event as MessageEvent;
use crate::session::step::Action;

/// ACK_TIMEOUT (RFC 7252 section 4.8), us: a separate response is sent again after this time and at most half of it more.
const ACK_TIMEOUT_US: u64 = 2_000_000;

/// MAX_RETRANSMIT: most retransmissions, each after twice the time before.
const RETRANSMISSIONS_MAX: u8 = 4;

/// Max-Age of 5.03, in seconds: the device may try again after it.
const RETRY_SECS: u32 = 5;

impl Endpoint {
    /// Handles an ACK or RST of a separate response.
    pub(super) fn confirm(&mut self, peer: PeerKey, id: u16) {
        self.end_answers(peer, |_, separate| separate.id == id);
    }

    /// Stops the retransmission of answers to requests with the same id and token. The peer has used them for another
    /// request, so it has restarted, and would take such an answer for the answer to its new request.
    pub(super) fn end_answers_like(&mut self, caller: &Caller) {
        self.end_answers(caller.peer, |other, _| other.key.is_like(&caller.key));
    }

    /// Stops the retransmission of separate responses.
    fn end_answers(&mut self, peer: PeerKey, is_meant: impl Fn(&Caller, &SeparateResponse) -> bool) {
        let exchanges = &self.exchanges;
        let is_meant = |exchange_id: &SlotId| {
            exchanges.find(*exchange_id).is_some_and(|exchange| match &exchange.stage {
                Stage::Separate(separate) => is_meant(&exchange.caller, separate),
                _ => false,
            })
        };
        let ended: Vec<SlotId> = self.seen.open_of(peer).filter(is_meant).collect();
        ended.into_iter().for_each(|exchange_id| self.end_separate(exchange_id));
    }

    /// Takes the request out of an exchange that waits for the registry.
    pub(super) fn unpark(&mut self, exchange_id: SlotId, ctx: &mut Context<'_>) -> Option<Request> {
        let exchange =
            self.exchanges.find_mut(exchange_id).filter(|exchange| matches!(exchange.stage, Stage::Lookup(_)))?;
        let Stage::Lookup(request) = std::mem::replace(&mut exchange.stage, Stage::Handling) else { return None };
        let bytes = request.held_bytes();
        self.parked -= 1;
        self.parked_bytes -= bytes;
        ctx.load.held_bytes = ctx.load.held_bytes.saturating_sub(bytes);
        Some(*request)
    }

    /// Hands a record over to the queue.
    pub(super) fn write(&mut self, exchange_id: SlotId, mut queued: Queued, ctx: &mut Context<'_>) {
        let Some(exchange) = self.exchanges.find_mut(exchange_id) else { return };
        match ctx.uplink.publish(delivery_id(self.settings.number, exchange_id, queued.sequence), &queued.record) {
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
            Handover::NotTaken => {
                let held_us = ctx.now.us.saturating_sub(exchange.arrived_us);
                ctx.encoder.tracer.end(queued.span, held_us, Some("queue_away"));
                self.give_up(exchange_id, DropReason::QueueAway, ctx);
            }
        }
    }

    /// Takes the record out of an exchange that waits for the queue.
    pub(super) fn unqueue(&mut self, exchange_id: SlotId, ctx: &mut Context<'_>) -> Option<Queued> {
        let exchange =
            self.exchanges.find_mut(exchange_id).filter(|exchange| matches!(exchange.stage, Stage::Queued(_)))?;
        let Stage::Queued(queued) = std::mem::replace(&mut exchange.stage, Stage::Handling) else { return None };
        ctx.load.held_bytes = ctx.load.held_bytes.saturating_sub(queued.record.held_bytes());
        ctx.load.held_records = ctx.load.held_records.saturating_sub(1);
        self.queued -= 1;
        Some(*queued)
    }

    /// Answers 5.03: the device must send its message again.
    pub(super) fn give_up(&mut self, exchange_id: SlotId, reason: DropReason, ctx: &mut Context<'_>) {
        drop(self.unpark(exchange_id, ctx));
        let mut queued = self.unqueue(exchange_id, ctx);
        let Some(exchange) = self.exchanges.find_mut(exchange_id) else { return };
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
        if ctx.is_followed
            && let Some(queued) = &queued
        {
            follow(peer, &queued.device, Action::GivenUp { messages: 1 }, ctx);
        }
        // The record may have been stored: a duplicate must not be written a second time.
        self.conclude(exchange_id, unavailable(reason), queued.is_some(), ctx);
    }

    /// Answers a request. With `remember` a duplicate gets the same answer; without it a duplicate is treated as new, and the
    /// answer is not retransmitted.
    pub(super) fn conclude(&mut self, exchange_id: SlotId, mut answer: Answer, remember: bool, ctx: &mut Context<'_>) {
        let jitter_us = self.jitter_us();
        let Some(exchange) = self.exchanges.find_mut(exchange_id) else { return };
        let (caller, acknowledged) = (exchange.caller, exchange.acknowledged);
        if answer.code != Code::REQUEST_ENTITY_TOO_LARGE {
            answer.block1 = exchange.block1;
        }
        ctx.observer.event(caller.peer, "", Event::Answered(answer.code));
        let kind = match acknowledged {
            true if remember => Kind::Confirmable,
            true => Kind::NonConfirmable,
            false => caller.immediate_kind(),
        };
        let id = self.answer_id(&caller, kind);
        let datagram = caller.encode(kind, id, &answer);
        ctx.send.push(caller.peer, &datagram);
        if acknowledged && remember {
            let Some(exchange) = self.exchanges.find_mut(exchange_id) else { return };
            let timeout_us = ACK_TIMEOUT_US + jitter_us;
            let due_us = ctx.now.us + timeout_us;
            exchange.stage =
                Stage::Separate(Box::new(SeparateResponse { id, datagram, retransmissions: 0, timeout_us, due_us }));
            return;
        }
        let state = match (acknowledged, remember) {
            // After an empty ACK no answer may travel in an ACK, not even for a duplicate (RFC 7252 section 5.2.2).
            (true, _) => Some(RequestState::AnsweredSeparately(datagram.into())),
            (false, true) => Some(RequestState::Answered(datagram.into())),
            (false, false) => None,
        };
        self.seen.close(caller.peer, caller.key, exchange_id, state);
        self.exchanges.release(exchange_id);
    }

    /// Handles the deadlines of a request that is older than [`ACK_DELAY_US`](super::ACK_DELAY_US).
    pub(super) fn check_deadlines(&mut self, exchange_id: SlotId, ctx: &mut Context<'_>) {
        let Some(exchange) = self.exchanges.find_mut(exchange_id) else { return };
        match &mut exchange.stage {
            Stage::Lookup(_) | Stage::Queued(_) | Stage::Handling => {
                let registry = matches!(exchange.stage, Stage::Lookup(_));
                let reason = if registry { DropReason::RegistryAway } else { DropReason::AckTimeout };
                if exchange.arrived_us + ctx.limits.ack_timeout_us <= ctx.now.us {
                    self.give_up(exchange_id, reason, ctx);
                }
            }
            Stage::Separate(separate) if separate.due_us > ctx.now.us => {}
            Stage::Separate(separate) if separate.retransmissions == RETRANSMISSIONS_MAX => {
                self.end_separate(exchange_id)
            }
            Stage::Separate(separate) => {
                separate.retransmissions += 1;
                separate.timeout_us *= 2;
                separate.due_us = ctx.now.us + separate.timeout_us;
                ctx.send.push(exchange.caller.peer, &separate.datagram);
                ctx.observer.event(exchange.caller.peer, "", Event::Retransmitted);
            }
        }
    }

    /// Stops the retransmission of a separate response; a duplicate of the request still gets it.
    fn end_separate(&mut self, exchange_id: SlotId) {
        let Some(Exchange { caller, stage: Stage::Separate(separate), .. }) = self.exchanges.release(exchange_id)
        else {
            return;
        };
        let state = RequestState::AnsweredSeparately(separate.datagram.into());
        self.seen.close(caller.peer, caller.key, exchange_id, Some(state));
    }

    /// ACK_RANDOM_FACTOR: up to half of ACK_TIMEOUT.
    fn jitter_us(&mut self) -> u64 {
        self.random.below(ACK_TIMEOUT_US / 2)
    }
}

/// The id under which the record of a request goes to the queue: its slot names the endpoint and the exchange.
pub(super) fn delivery_id(number: u8, exchange_id: SlotId, sequence: u16) -> DeliveryId {
    let index = ENDPOINT_BIT | u32::from(number & 0x7f) << NUMBER_SHIFT | exchange_id.index;
    DeliveryId { slot: SlotId { index, ..exchange_id }, sequence }
}

pub(super) fn unavailable(reason: DropReason) -> Answer {
    let diagnostic = match reason {
        DropReason::QueueAway => "the queue is away",
        DropReason::AckTimeout => "the queue did not answer in time",
        DropReason::Overload => "too much is under way",
        DropReason::RegistryAway => "the registry is away",
        DropReason::Draining => "the bridge shuts down",
    };
    Answer { max_age_secs: Some(RETRY_SECS), ..Answer::because(Code::SERVICE_UNAVAILABLE, diagnostic) }
}
