//! From a datagram to a parked request, or to an answer that needs no device.

use super::answer::unavailable;
use super::{Endpoint, NUMBER_SHIFT, Parked, answer_of, follow};
use crate::codec::coap::{Block, Code, Kind, Message, empty};
use crate::protocol::cipher;
use crate::protocol::uplink::Availability;
use crate::session::coap::dedup::{Entry, Lookup, Origin, RequestKey, RequestState};
use crate::session::coap::download::DownloadKey;
use crate::session::coap::exchange::{Answer, Caller, Exchange, Stage};
use crate::session::coap::handle::{is_direct, too_large, unauthorized};
use crate::session::coap::request::{Body, Fault, Request};
use crate::session::coap::upload::{Earlier, ReceivedBlock, Repetition, Step, Uploads};
use crate::session::coap::{Context, DropReason, Event, PeerKey, Refusal, Refused, Security};
use crate::session::step::Action;

/// Diagnostic payload of the answer to a `direct` that is not accepted.
const DIRECT_IS_OFF: &str = "direct is off";

impl Endpoint {
    /// Handles a request; `message` was read from `datagram`.
    pub(super) fn receive_request(
        &mut self,
        peer: PeerKey,
        datagram: &[u8],
        message: Message,
        queue: Availability,
        ctx: &mut Context<'_>,
    ) -> Option<Parked> {
        let confirmable = message.kind() == Kind::Confirmable;
        let fingerprint = self.settings.key.fingerprint(datagram);
        let key = RequestKey { id: message.id(), token: message.token(), fingerprint };
        let caller = Caller { peer, key, confirmable, request_bytes: datagram.len() };
        let mut request = match Request::read(message, &self.settings.security) {
            Ok(request) => request,
            Err(fault) => {
                self.refuse(&caller, fault, ctx);
                return None;
            }
        };
        if self.refuses_direct(&request) {
            // Before the device is looked up: the answer is the same for those that there are and for others.
            self.reply(&caller, &Answer::because(Code::METHOD_NOT_ALLOWED, DIRECT_IS_OFF), ctx);
            return None;
        }
        if let Some(wanted) = request.wanted.filter(|wanted| wanted.number > 0) {
            // Its body was whole when the answer was begun (RFC 7959 section 2.7), and is not looked at again.
            let key = DownloadKey { device: request.device, topic: request.topic };
            let answer = answer_of(self.downloads.fetch(peer, &key, wanted));
            self.reply(&caller, &answer, ctx);
            return None;
        }
        let earlier = self.earlier(&caller, request.part.is_some(), ctx);
        if earlier == Earlier::Other {
            self.end_answers_like(&caller);
        }
        if matches!(earlier, Earlier::Same { .. }) && self.answer_repetition(&caller, &request, earlier, ctx) {
            return None;
        }
        let block1 = request.part.map(|part| part.block);
        if let Some(reason) = self.closed(queue, ctx) {
            if ctx.is_followed {
                follow(peer, &request.device, Action::Respond(Code::SERVICE_UNAVAILABLE), ctx);
            }
            self.reply_unavailable(&caller, block1, reason, ctx);
            return None;
        }
        let upload = match self.assemble_body(&caller, &mut request, earlier, ctx) {
            Ok(upload) => upload,
            Err(answer) => {
                self.reply(&caller, &answer, ctx);
                return None;
            }
        };
        let origin = Origin { upload, is_restart: earlier == Earlier::Other };
        let parked = self.park(caller, request, origin, ctx);
        if parked.is_none() {
            self.reply_unavailable(&caller, block1, DropReason::Overload, ctx);
        }
        parked
    }

    /// Whether a request is of the type `direct` and cannot be authenticated.
    fn refuses_direct(&self, request: &Request) -> bool {
        matches!(self.settings.security, Security::Aes) && !self.settings.takes_direct && is_direct(&request.topic)
    }

    /// Earlier use of a request's message id and token.
    fn earlier(&mut self, caller: &Caller, is_block: bool, ctx: &Context<'_>) -> Earlier {
        let (Caller { peer, key, .. }, now_us) = (*caller, ctx.now.us);
        let mut look = self.seen.look(peer, key, now_us);
        if is_block && !matches!(look, Lookup::Same(_)) {
            let of_blocks = self.blocks.look(peer, key, now_us);
            if !matches!(of_blocks, Lookup::New) {
                look = of_blocks;
            }
        }
        match look {
            Lookup::Same(&Entry { upload, at_us, .. }) => {
                let restarted =
                    is_block && (self.seen.has_restarted(peer, at_us) || self.blocks.has_restarted(peer, at_us));
                Earlier::Same { upload, restarted }
            }
            Lookup::Reused => Earlier::Other,
            Lookup::New => Earlier::Nothing,
        }
    }

    /// Answers a request that came before, byte for byte; false when it must be handled like a new one.
    fn answer_repetition(
        &mut self,
        caller: &Caller,
        request: &Request,
        earlier: Earlier,
        ctx: &mut Context<'_>,
    ) -> bool {
        let repetition = match received(caller, request, earlier) {
            // A body that was too large was answered before its last block.
            Some(received)
                if !received.part.block.more || self.seen.find(caller.peer, caller.key, ctx.now.us).is_none() =>
            {
                self.uploads.repetition(&received)
            }
            _ => Repetition::Answered,
        };
        match repetition {
            Repetition::Part => return false,
            Repetition::Late => self.reply(caller, &block_missing(), ctx),
            Repetition::Held => {
                ctx.observer.event(caller.peer, "", Event::Duplicate);
                let block1 = request.part.map(|part| part.block);
                self.send(caller, &Answer { block1, ..Answer::new(Code::CONTINUE) }, ctx);
            }
            Repetition::Answered => self.answer_again(caller, ctx),
        }
        true
    }

    /// Sends a duplicate the answer of its request.
    fn answer_again(&mut self, caller: &Caller, ctx: &mut Context<'_>) {
        ctx.observer.event(caller.peer, "", Event::Duplicate);
        let acknowledge = |ctx: &mut Context<'_>| {
            if caller.confirmable {
                ctx.send.push(caller.peer, &empty(Kind::Acknowledgement, caller.key.id));
            }
        };
        match self.seen.find(caller.peer, caller.key, ctx.now.us).map(|known| &known.state) {
            Some(RequestState::Open(exchange_id)) => {
                if self.exchanges.find(*exchange_id).is_some_and(|exchange| exchange.acknowledged) {
                    acknowledge(ctx);
                }
            }
            Some(RequestState::Answered(datagram)) => ctx.send.push(caller.peer, datagram),
            Some(RequestState::AnsweredSeparately(datagram)) => {
                acknowledge(ctx);
                ctx.send.push(caller.peer, datagram);
            }
            Some(RequestState::Block) | None => {}
        }
    }

    /// Reason to refuse every request at this moment.
    fn closed(&self, queue: Availability, ctx: &Context<'_>) -> Option<DropReason> {
        match () {
            () if self.draining => Some(DropReason::Draining),
            () if queue != Availability::Ok => Some(DropReason::QueueAway),
            () if ctx.load.held_bytes >= ctx.limits.inflight_bytes => Some(DropReason::Overload),
            () => None,
        }
    }

    /// Puts the blocks of a body together; an answer, unless the body is whole or known to be too large. Gives the number
    /// of the upload, 0 where there was none.
    fn assemble_body(
        &mut self,
        caller: &Caller,
        request: &mut Request,
        earlier: Earlier,
        ctx: &mut Context<'_>,
    ) -> Result<u32, Answer> {
        let Some(received) = received(caller, request, earlier) else { return Ok(0) };
        let block1 = Some(received.part.block);
        let padding_bytes = match self.settings.security {
            Security::Aes => cipher::BLOCK_BYTES,
            Security::Dtls { .. } => 0,
        };
        let (body_bytes_max, now_us) = (ctx.limits.packet_bytes + padding_bytes, ctx.now.us);
        let step = self.with_uploads(ctx, |uploads| uploads.take(&received, body_bytes_max, now_us));
        match (step, &self.settings.security) {
            (Step::Complete(upload, body), _) => {
                request.body = Body::Whole(body);
                Ok(upload)
            }
            // A token still proves whose it was; without the whole of an encrypted body nothing does.
            (Step::TooLarge, Security::Dtls { .. }) => {
                request.body = Body::TooLarge;
                Ok(0)
            }
            (Step::TooLarge, Security::Aes) => Err(too_large(ctx.limits.packet_bytes)),
            (Step::Continue(upload), _) => {
                let origin = Origin { upload, is_restart: earlier == Earlier::Other };
                self.blocks.note_block(caller.peer, caller.key, origin, now_us);
                Err(Answer { block1, ..Answer::new(Code::CONTINUE) })
            }
            (Step::Gap, _) => Err(block_missing()),
            (Step::WrongLength, _) => {
                Err(Answer::because(Code::BAD_REQUEST, "the block is not as long as Block1 says"))
            }
        }
    }

    /// Opens an exchange that waits for the registry; `None` when there is no room.
    fn park(&mut self, caller: Caller, request: Request, origin: Origin, ctx: &mut Context<'_>) -> Option<Parked> {
        let bytes = request.held_bytes();
        // A body as large as the limit must find room.
        let bytes_max = self.settings.unproven_bytes.max(2 * ctx.limits.packet_bytes);
        // A larger index would reach into the number of the endpoint in a delivery id.
        let is_full = self.exchanges.len() >= self.settings.exchanges.min(1 << NUMBER_SHIFT);
        if is_full || (self.parked > 0 && self.parked_bytes + bytes > bytes_max) {
            return None;
        }
        if self.recent.len() >= 2 * self.settings.exchanges {
            // Requests close sooner than the oldest of them is looked at.
            let exchanges = &self.exchanges;
            self.recent.retain(|(_, exchange_id)| exchanges.find(*exchange_id).is_some());
        }
        self.arrivals += 1;
        let device = request.device.clone();
        let exchange_id = self.exchanges.insert(Exchange {
            caller,
            block1: request.part.map(|part| part.block),
            arrived_us: ctx.now.us,
            number: self.arrivals,
            acknowledged: false,
            stage: Stage::Lookup(Box::new(request)),
        });
        if !self.seen.open(caller.peer, caller.key, origin, exchange_id, ctx.now.us) {
            self.exchanges.release(exchange_id);
            return None;
        }
        self.parked += 1;
        self.parked_bytes += bytes;
        ctx.load.held_bytes += bytes;
        self.recent.push_back((ctx.now.us, exchange_id));
        Some(Parked { exchange_id, device })
    }

    pub(super) fn with_uploads<R>(&mut self, ctx: &mut Context<'_>, act: impl FnOnce(&mut Uploads) -> R) -> R {
        let before = self.uploads.held_bytes();
        let result = act(&mut self.uploads);
        ctx.load.held_bytes = (ctx.load.held_bytes + self.uploads.held_bytes()).saturating_sub(before);
        result
    }

    fn reply_unavailable(&mut self, caller: &Caller, block1: Option<Block>, reason: DropReason, ctx: &mut Context<'_>) {
        if !caller.confirmable {
            ctx.observer.event(caller.peer, "", Event::Dropped(reason));
        }
        self.reply(caller, &Answer { block1, ..unavailable(reason) }, ctx);
    }

    fn refuse(&mut self, caller: &Caller, fault: Fault, ctx: &mut Context<'_>) {
        let answer = match fault {
            Fault::Option(..) if !caller.confirmable => {
                return ctx.send.push(caller.peer, &empty(Kind::Reset, caller.key.id));
            }
            Fault::Option(number, mistake) => Answer::because(Code::BAD_OPTION, format!("option {number} {mistake}")),
            Fault::Nameless => {
                ctx.observer.event(caller.peer, "", Event::Refused(Refused::new(Refusal::Nameless)));
                unauthorized()
            }
            Fault::Answer(code, text) => Answer::because(code, text),
        };
        self.reply(caller, &answer, ctx);
    }

    /// Answers a request that was not opened.
    fn reply(&mut self, caller: &Caller, answer: &Answer, ctx: &mut Context<'_>) {
        ctx.observer.event(caller.peer, "", Event::Answered(answer.code));
        self.send(caller, answer, ctx);
    }

    fn send(&mut self, caller: &Caller, answer: &Answer, ctx: &mut Context<'_>) {
        let kind = caller.immediate_kind();
        let datagram = caller.encode(kind, self.answer_id(caller, kind), answer);
        ctx.send.push(caller.peer, &datagram);
    }

    /// The message id of an answer.
    pub(super) fn answer_id(&mut self, caller: &Caller, kind: Kind) -> u16 {
        let own = if kind == Kind::Acknowledgement { None } else { self.seen.next_id(caller.peer) };
        own.unwrap_or(caller.key.id)
    }
}

/// 4.08: nothing of the body is kept.
fn block_missing() -> Answer {
    Answer::because(Code::REQUEST_ENTITY_INCOMPLETE, "a block is missing: begin with block 0")
}

fn received<'a>(caller: &Caller, request: &'a Request, earlier: Earlier) -> Option<ReceivedBlock<'a>> {
    let (Some(part), Body::Whole(bytes)) = (request.part, &request.body) else { return None };
    Some(ReceivedBlock { peer: caller.peer, part, bytes, earlier })
}
