//! From a datagram to a parked request, or to an answer that needs no device.

use super::answer::unavailable;
use super::{Endpoint, Parked};
use crate::codec::coap::{Block, Code, Kind, Message, empty, option};
use crate::protocol::coap::demand::{Body, Demand, Fault, upload_key};
use crate::protocol::coap::exchange::{Answer, Caller, Exchange, Exchanges, Stage};
use crate::protocol::coap::judge::too_large;
use crate::protocol::coap::seen::Sighting;
use crate::protocol::coap::upload::{Piece, Step, Uploads};
use crate::protocol::coap::{Context, DropReason, Event, PeerKey, Refusal, Security, cipher};
use crate::protocol::uplink::Availability;

impl Endpoint {
    pub(super) fn request(&mut self, peer: PeerKey, message: Message, ctx: &mut Context<'_>) -> Option<Parked> {
        let confirmable = message.kind() == Kind::Confirmable;
        let caller = Caller { peer, id: message.id(), token: message.token(), confirmable };
        let request = (caller.id, caller.token);
        let mut sighting = self.seen.find(peer, request, ctx.now.us);
        let key = message.value(option::BLOCK1).map(|_| upload_key(&message));
        if key.is_some() && sighting.is_none() {
            sighting = self.blocks.find(peer, request, ctx.now.us);
        }
        if let Some(sighting) = sighting {
            ctx.observer.event(peer, "", Event::Duplicate);
            repeat(&caller, sighting, &mut self.exchanges, ctx);
            return None;
        }
        let mut demand = match Demand::read(message, &self.settings.security) {
            Ok(demand) => demand,
            Err(fault) => {
                refuse(&caller, fault, ctx);
                return None;
            }
        };
        if let Some(reason) = self.closed(ctx) {
            turn_away(&caller, demand.block, reason, ctx);
            return None;
        }
        if let Some(key) = key
            && let Err(answer) = self.gather(&caller, &mut demand, key, ctx)
        {
            let datagram = reply(&caller, &answer, ctx);
            if answer.code == Code::CONTINUE {
                self.blocks.note(peer, request, datagram, ctx.now.us);
            }
            return None;
        }
        let parked = self.park(caller, demand, ctx);
        if let Err(block) = parked {
            turn_away(&caller, block, DropReason::Overload, ctx);
        }
        parked.ok()
    }

    /// Why no request is taken in at this moment.
    fn closed(&self, ctx: &Context<'_>) -> Option<DropReason> {
        match () {
            () if self.draining => Some(DropReason::Draining),
            () if ctx.queue != Availability::Ok => Some(DropReason::QueueAway),
            () if ctx.load.held_bytes >= ctx.limits.inflight_bytes => Some(DropReason::Overload),
            () => None,
        }
    }

    /// Puts the blocks of a body together; an answer, unless the body is whole or known to be too large.
    fn gather(
        &mut self,
        caller: &Caller,
        demand: &mut Demand,
        key: [u8; 32],
        ctx: &mut Context<'_>,
    ) -> Result<(), Answer> {
        let (Some(block), Body::Whole(bytes)) = (demand.block, &demand.body) else { return Ok(()) };
        let piece = Piece { peer: caller.peer, key, block, bytes, announced_bytes: demand.announced_bytes };
        let padding_bytes = match self.settings.security {
            Security::Aes => cipher::BLOCK_BYTES,
            Security::Dtls { .. } => 0,
        };
        let (body_bytes_max, now_us) = (ctx.limits.packet_bytes + padding_bytes, ctx.now.us);
        let step = self.with_uploads(ctx, |uploads| uploads.take(&piece, body_bytes_max, now_us));
        match (step, &self.settings.security) {
            (Step::Complete(body), _) => demand.body = Body::Whole(body),
            // A token still proves whose it was; without the whole of an encrypted body nothing does.
            (Step::TooLarge, Security::Dtls { .. }) => demand.body = Body::TooLarge,
            (Step::TooLarge, Security::Aes) => return Err(too_large(ctx.limits.packet_bytes)),
            (Step::Continue, _) => return Err(Answer { block: Some(block), ..Answer::new(Code::CONTINUE) }),
            (Step::Gap, _) => return Err(Answer::new(Code::REQUEST_ENTITY_INCOMPLETE)),
            (Step::Misfit, _) => return Err(Answer::new(Code::BAD_REQUEST)),
        }
        Ok(())
    }

    /// Opens an exchange that waits for the registry; an error when there is no room.
    fn park(&mut self, caller: Caller, demand: Demand, ctx: &mut Context<'_>) -> Result<Parked, Option<Block>> {
        let block = demand.block;
        let bytes = demand.held_bytes();
        let bytes_max = self.settings.unproven_bytes.max(2 * ctx.limits.packet_bytes);
        // A body as large as the limit must find room.
        if self.exchanges.is_full() || (self.parked > 0 && self.parked_bytes + bytes > bytes_max) {
            return Err(block);
        }
        if self.young.len() >= 2 * self.settings.exchanges {
            // Requests close sooner than the oldest of them is looked at.
            let exchanges = &mut self.exchanges;
            self.young.retain(|(_, ticket)| exchanges.get(*ticket).is_some());
        }
        self.arrivals += 1;
        let device = demand.device.clone();
        let ticket = self.exchanges.insert(Exchange {
            caller,
            block,
            arrived_us: ctx.now.us,
            number: self.arrivals,
            acknowledged: false,
            stage: Stage::Lookup(Box::new(demand)),
        });
        if !self.seen.open(caller.peer, (caller.id, caller.token), ticket, ctx.now.us) {
            self.exchanges.remove(ticket);
            return Err(block);
        }
        self.parked += 1;
        self.parked_bytes += bytes;
        ctx.load.held_bytes += bytes;
        self.young.push_back((ctx.now.us, ticket));
        Ok(Parked { ticket, device })
    }

    pub(super) fn with_uploads<R>(&mut self, ctx: &mut Context<'_>, act: impl FnOnce(&mut Uploads) -> R) -> R {
        let before = self.uploads.held_bytes();
        let result = act(&mut self.uploads);
        ctx.load.held_bytes = (ctx.load.held_bytes + self.uploads.held_bytes()).saturating_sub(before);
        result
    }
}

fn turn_away(caller: &Caller, block: Option<Block>, reason: DropReason, ctx: &mut Context<'_>) {
    if !caller.confirmable {
        ctx.observer.event(caller.peer, "", Event::Dropped(reason));
    }
    reply(caller, &Answer { block, ..unavailable() }, ctx);
}

/// Answers a request that was not taken in.
fn reply(caller: &Caller, answer: &Answer, ctx: &mut Context<'_>) -> Vec<u8> {
    ctx.observer.event(caller.peer, "", Event::Answered(answer.code));
    let datagram = caller.encode(caller.kind_at_once(), answer);
    ctx.send.push(caller.peer, &datagram);
    datagram
}

fn refuse(caller: &Caller, fault: Fault, ctx: &mut Context<'_>) {
    let code = match fault {
        Fault::Option if !caller.confirmable => {
            return ctx.send.push(caller.peer, &empty(Kind::Reset, caller.id));
        }
        Fault::Option => Code::BAD_OPTION,
        Fault::Nameless => {
            ctx.observer.event(caller.peer, "", Event::Refused(Refusal::Nameless));
            Code::UNAUTHORIZED
        }
        Fault::Answer(code) => code,
    };
    reply(caller, &Answer::new(code), ctx);
}

/// Answers a duplicate.
fn repeat(caller: &Caller, sighting: &Sighting, exchanges: &mut Exchanges, ctx: &mut Context<'_>) {
    let acknowledge = |ctx: &mut Context<'_>| {
        if caller.confirmable {
            ctx.send.push(caller.peer, &empty(Kind::Acknowledgement, caller.id));
        }
    };
    match sighting {
        Sighting::Open(ticket) => {
            if exchanges.get(*ticket).is_some_and(|exchange| exchange.acknowledged) {
                acknowledge(ctx);
            }
        }
        Sighting::Answered(datagram) => ctx.send.push(caller.peer, datagram),
        Sighting::AnsweredApart(datagram) => {
            acknowledge(ctx);
            ctx.send.push(caller.peer, datagram);
        }
    }
}
