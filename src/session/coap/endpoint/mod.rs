//! The state machine; [`super`] describes its flow.

mod answer;
mod receive;

use std::collections::VecDeque;

use self::answer::delivery_id;
use super::dedup::RecentRequests;
use super::download::{DownloadKey, Downloads, Fetched, SIZE_EXPONENT_MAX};
use super::exchange::{Answer, Caller, Exchange, Queued, Stage};
use super::handle::{Handled, RequestHandler};
use super::upload::Uploads;
use super::{Context, DropReason, Event, PeerKey, Settings};
use crate::codec::coap::{Block, Code, Kind, Malformed, decode, empty};
use crate::protocol::envelope::Replacement;
use crate::protocol::id::DeviceId;
use crate::protocol::random::Random;
use crate::protocol::uplink::{Availability, DeliveryId, Handover, RecordRefusal, SlotId};
use crate::session::identity::Lookup;
use crate::session::mqtt::Event as MessageEvent;
use crate::session::slots::Slots;
use crate::session::step::{Action, Step, StoredAnswer};

/// Time after which a request without an answer gets an empty ACK, us. Below the 2 s after which clients send it again.
const ACK_DELAY_US: u64 = 1_000_000;

/// Bit that is set in the slot's index of every delivery id of an endpoint.
const ENDPOINT_BIT: u32 = 1 << 31;

/// Position of the endpoint's number in that index; the bits below it are the index of the exchange in the endpoint.
const NUMBER_SHIFT: u32 = 24;

/// The number of the endpoint that the slot of a delivery id belongs to; `None` for those of sessions.
pub fn endpoint_of(slot: SlotId) -> Option<u8> {
    // 7 bits are left.
    (slot.index & ENDPOINT_BIT != 0).then_some((slot.index >> NUMBER_SHIFT) as u8 & 0x7f)
}

/// A request that waits until its device is looked up. It has no effect once the endpoint has given the request up.
#[derive(Debug)]
pub struct Parked {
    exchange_id: SlotId,
    /// The device to look up.
    pub device: DeviceId,
}

/// Sizes of an endpoint at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Open requests.
    pub exchanges: usize,
    /// Open requests that wait for the registry.
    pub parked: usize,
    /// Bytes of requests that wait for the registry.
    pub parked_bytes: usize,
    /// Requests that are remembered for duplicates, the open ones included.
    pub remembered: usize,
    /// Peers with remembered requests.
    pub peers: usize,
    /// Open uploads.
    pub uploads: usize,
    /// Bytes of open uploads.
    pub upload_bytes: usize,
    /// Blocks that are remembered for duplicates.
    pub blocks: usize,
    /// Answers in blocks.
    pub downloads: usize,
    /// Bytes of answers in blocks.
    pub download_bytes: usize,
    /// Requests whose deadlines are checked, closed ones included.
    pub timers: usize,
}

/// State machine of all peers of a port; see [`super`].
#[derive(Debug)]
pub struct Endpoint {
    settings: Settings,
    exchanges: Slots<Exchange>,
    seen: RecentRequests,
    /// Blocks that were received. Their senders are not authenticated, so they have a table of their own and push no
    /// request out of the other.
    blocks: RecentRequests,
    uploads: Uploads,
    downloads: Downloads,
    /// Requests younger than [`ACK_DELAY_US`], in the order of arrival; closed ones are among them.
    recent: VecDeque<(u64, SlotId)>,
    /// Requests older than that; closed ones are among them.
    delayed: Vec<SlotId>,
    parked: usize,
    parked_bytes: usize,
    queued: usize,
    arrivals: u64,
    random: Random,
    draining: bool,
}

impl Endpoint {
    /// An endpoint without peers.
    pub fn new(settings: Settings) -> Self {
        let remembered = settings.remembered.max(settings.exchanges);
        Self {
            exchanges: Slots::new(),
            seen: RecentRequests::new(remembered, settings.remembered_per_peer, settings.exchanges_per_peer),
            blocks: RecentRequests::new(settings.blocks_remembered, settings.blocks_remembered_per_peer, 1),
            uploads: Uploads::new(settings.uploads, settings.uploads_per_peer, settings.unproven_bytes),
            downloads: Downloads::new(settings.downloads, settings.downloads_per_peer, settings.download_bytes),
            recent: VecDeque::new(),
            delayed: Vec::new(),
            parked: 0,
            parked_bytes: 0,
            queued: 0,
            arrivals: 0,
            // No request is empty, so no request has this hash.
            random: Random::new(settings.key.fingerprint(&[]).into()),
            draining: false,
            settings,
        }
    }

    /// Sizes at this moment.
    pub fn held(&self) -> Held {
        Held {
            exchanges: self.exchanges.len(),
            parked: self.parked,
            parked_bytes: self.parked_bytes,
            remembered: self.seen.len(),
            peers: self.seen.peers(),
            uploads: self.uploads.len(),
            upload_bytes: self.uploads.held_bytes(),
            blocks: self.blocks.len(),
            downloads: self.downloads.len(),
            download_bytes: self.downloads.held_bytes(),
            timers: self.recent.len() + self.delayed.len(),
        }
    }

    /// Number of requests without an answer, or whose answer was not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.exchanges.len()
    }

    /// Bytes of requests that wait for the registry.
    pub fn parked_bytes(&self) -> usize {
        self.parked_bytes
    }

    /// Number of requests that wait for the registry or the queue.
    pub fn unanswered(&self) -> usize {
        self.parked + self.queued
    }

    /// Answers every new request with 5.03 from now on; open ones go on.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Handles a datagram. A request whose device must be looked up is returned parked: [`Endpoint::device`] goes on
    /// with it. While the queue does not acknowledge, requests are answered 5.03 at once.
    pub fn feed(
        &mut self,
        peer: PeerKey,
        datagram: &[u8],
        queue: Availability,
        ctx: &mut Context<'_>,
    ) -> Option<Parked> {
        let message = match decode(datagram) {
            Ok(message) => message,
            Err(malformed) => {
                ctx.observer.event(peer, "", Event::Noise);
                if let Malformed::Confirmable(id) = malformed {
                    ctx.send.push(peer, &empty(Kind::Reset, id));
                }
                return None;
            }
        };
        let id = message.id();
        match message.kind() {
            Kind::Acknowledgement | Kind::Reset if message.code() == Code::EMPTY => self.confirm(peer, id),
            Kind::Confirmable | Kind::NonConfirmable if message.code().is_request() => {
                return self.receive_request(peer, datagram, message, queue, ctx);
            }
            // A ping, or an answer that nobody asked for.
            Kind::Confirmable => ctx.send.push(peer, &empty(Kind::Reset, id)),
            Kind::NonConfirmable | Kind::Acknowledgement | Kind::Reset => {
                ctx.observer.event(peer, "", Event::Noise);
            }
        }
        None
    }

    /// Goes on with a parked request; `lookup` is the registry's answer for [`Parked::device`].
    pub fn device(&mut self, parked: &Parked, lookup: &Lookup, ctx: &mut Context<'_>) {
        let exchange_id = parked.exchange_id;
        let Some(request) = self.unpark(exchange_id, ctx) else { return };
        let Some(exchange) = self.exchanges.find_mut(exchange_id) else { return };
        let caller = exchange.caller;
        let identity = match lookup {
            Lookup::Found(identity) => Some(identity),
            Lookup::Unknown => None,
            Lookup::Away => return self.give_up(exchange_id, DropReason::RegistryAway, ctx),
        };
        let wanted = request.wanted;
        let device = parked.device.as_str();
        let handler = RequestHandler { settings: &self.settings, ctx, peer: caller.peer, device };
        let handled = handler.handle(request, identity);
        let responds = match &handled {
            Handled::Answer(answer) => Some(answer.code),
            Handled::Content(..) => Some(Code::CONTENT),
            Handled::Write(..) => None,
        };
        if let Some(code) = responds.filter(|_| ctx.is_followed) {
            follow(caller.peer, &parked.device, Action::Respond(code), ctx);
        }
        match handled {
            Handled::Answer(answer) => self.conclude(exchange_id, answer, false, ctx),
            Handled::Content(topic, json) => {
                let key = DownloadKey { device: parked.device.clone(), topic };
                let answer = self.first_block(&caller, key, json, wanted, ctx.now.us);
                self.conclude(exchange_id, answer, false, ctx);
            }
            Handled::Write(record, span, answer) => {
                let (device, record) = (parked.device.clone(), *record);
                self.write(
                    exchange_id,
                    Queued { device, record, span, answer, sequence: 0, handed_over_us: ctx.now.us },
                    ctx,
                );
            }
        }
    }

    /// Answer with the content, or with its first block where it is longer than the client wants.
    fn first_block(
        &mut self,
        caller: &Caller,
        key: DownloadKey,
        json: Vec<u8>,
        wanted: Option<Block>,
        now_us: u64,
    ) -> Answer {
        let size_exponent = wanted.map_or(SIZE_EXPONENT_MAX, |wanted| wanted.size_exponent);
        let first = Block { number: 0, more: false, size_exponent };
        if json.len() <= first.bytes() {
            return Answer::content(wanted.and(Some(first)), json);
        }
        let fingerprint = caller.key.fingerprint;
        answer_of(self.downloads.begin(caller.peer, fingerprint, key, json, size_exponent, now_us))
    }

    /// Applies a receipt of the queue. One of another endpoint, or of a request that was given up, changes nothing.
    pub fn receipt(&mut self, id: DeliveryId, stored: bool, ctx: &mut Context<'_>) {
        let Some((exchange_id, _)) = self.queued(id) else { return };
        if !stored {
            return self.give_up(exchange_id, DropReason::QueueAway, ctx);
        }
        let Some(exchange) = self.exchanges.find_mut(exchange_id) else { return };
        let (peer, arrived_us) = (exchange.caller.peer, exchange.arrived_us);
        let Some(queued) = self.unqueue(exchange_id, ctx) else { return };
        let latency_us = ctx.now.us.saturating_sub(arrived_us);
        let queue_us = ctx.now.us.saturating_sub(queued.handed_over_us);
        if ctx.is_followed {
            let answer = StoredAnswer::Coap(queued.answer.code);
            follow(peer, &queued.device, Action::Stored { record: &queued.record, latency_us, queue_us, answer }, ctx);
        }
        ctx.encoder.tracer.end(queued.span, latency_us, None);
        let stored = MessageEvent::Stored { latency_us, queue_us };
        ctx.observer.event(peer, queued.device.as_str(), Event::Message(stored));
        self.conclude(exchange_id, queued.answer, true, ctx);
    }

    /// Replaces a record that the queue refuses for good by a rejected envelope; its device gets 4.13 or 4.00 once that is
    /// stored. A record that has no replacement is given up.
    pub fn refused(&mut self, id: DeliveryId, refusal: &RecordRefusal, ctx: &mut Context<'_>) {
        let Some((exchange_id, queued)) = self.queued(id) else { return };
        let Some(replacement) = ctx.encoder.replacement(&queued.record, refusal) else {
            return self.give_up(exchange_id, DropReason::QueueAway, ctx);
        };
        let Replacement { record, kind, reason, topic } = replacement;
        ctx.load.held_bytes = ctx.load.held_bytes.saturating_sub(queued.record.held_bytes()) + record.held_bytes();
        queued.answer = match refusal {
            RecordRefusal::TooLarge(_) => {
                Answer::because(Code::REQUEST_ENTITY_TOO_LARGE, "larger than the queue takes")
            }
            RecordRefusal::Rule(_) => Answer::because(Code::BAD_REQUEST, "the queue refuses the message"),
        };
        queued.handed_over_us = ctx.now.us;
        queued.record = record;
        let taken = ctx.uplink.publish(id, &queued.record);
        let replacement = ctx.is_followed.then(|| queued.record.clone());
        let device = queued.device.clone();
        let Some(exchange) = self.exchanges.find_mut(exchange_id) else { return };
        let event = MessageEvent::RefusedByQueue { kind, reason, topic: &topic, cause: refusal.cause() };
        let peer = exchange.caller.peer;
        ctx.observer.event(peer, device.as_str(), Event::Message(event));
        if let Some(record) = &replacement {
            follow(peer, &device, Action::Envelope(record), ctx);
        }
        if taken == Handover::NotTaken {
            self.give_up(exchange_id, DropReason::QueueAway, ctx);
        }
    }

    /// The request whose record was handed over under that id, unless it was handed over again since.
    fn queued(&mut self, id: DeliveryId) -> Option<(SlotId, &mut Queued)> {
        if endpoint_of(id.slot) != Some(self.settings.number) {
            return None;
        }
        let exchange_id = SlotId { index: id.slot.index & ((1 << NUMBER_SHIFT) - 1), ..id.slot };
        match &mut self.exchanges.find_mut(exchange_id)?.stage {
            Stage::Queued(queued) if queued.sequence == id.sequence => Some((exchange_id, queued)),
            _ => None,
        }
    }

    /// Hands the records that are not stored over once more, in the order of the requests' arrival: the queue takes records
    /// again.
    pub fn resend(&mut self, ctx: &mut Context<'_>) {
        let mut open: Vec<(u64, SlotId)> =
            self.exchanges.entries().map(|(id, exchange)| (exchange.number, id)).collect();
        open.sort_unstable();
        for (_, exchange_id) in open {
            let number = self.settings.number;
            let Some(Stage::Queued(queued)) = self.exchanges.find_mut(exchange_id).map(|exchange| &mut exchange.stage)
            else {
                continue;
            };
            queued.sequence = queued.sequence.wrapping_add(1);
            queued.handed_over_us = ctx.now.us;
            // A record that is refused again waits for the next call, or for its deadline.
            ctx.uplink.publish(delivery_id(number, exchange_id, queued.sequence), &queued.record);
        }
    }

    /// Checks all deadlines; to be called about ten times a second.
    pub fn tick(&mut self, ctx: &mut Context<'_>) {
        let now_us = ctx.now.us;
        let delay_us = ACK_DELAY_US.min(ctx.limits.ack_timeout_us);
        while let Some(&(arrived_us, exchange_id)) = self.recent.front() {
            let Some(exchange) = self.exchanges.find_mut(exchange_id) else {
                self.recent.pop_front();
                continue;
            };
            if arrived_us + delay_us > now_us {
                break;
            }
            self.recent.pop_front();
            self.delayed.push(exchange_id);
            let overdue = arrived_us + ctx.limits.ack_timeout_us <= now_us;
            if exchange.caller.confirmable && !overdue {
                exchange.acknowledged = true;
                ctx.send.push(exchange.caller.peer, &empty(Kind::Acknowledgement, exchange.caller.key.id));
            }
        }
        let mut delayed = std::mem::take(&mut self.delayed);
        delayed.retain(|&exchange_id| {
            self.check_deadlines(exchange_id, ctx);
            self.exchanges.find(exchange_id).is_some()
        });
        self.delayed = delayed;
        self.with_uploads(ctx, |uploads| uploads.expire(now_us));
        self.downloads.expire(now_us);
        self.seen.sweep(now_us);
        self.blocks.sweep(now_us);
    }

    /// Removes a peer that is gone: nothing is sent to it any more. Its records on their way to the queue still get there.
    pub fn forget(&mut self, peer: PeerKey, ctx: &mut Context<'_>) {
        for exchange_id in self.seen.forget(peer) {
            drop(self.unpark(exchange_id, ctx));
            drop(self.unqueue(exchange_id, ctx));
            self.exchanges.release(exchange_id);
        }
        self.blocks.forget(peer);
        self.downloads.forget(peer);
        self.with_uploads(ctx, |uploads| uploads.forget(peer));
    }
}

/// Tells those who follow a device of a step; only while somebody does.
pub(super) fn follow(peer: PeerKey, device: &DeviceId, action: Action<'_>, ctx: &mut Context<'_>) {
    let device = device.as_str();
    ctx.observer.step(peer, &Step { product: "", device, about: device, action });
}

fn answer_of(fetched: Fetched) -> Answer {
    match fetched {
        Fetched::Block(block, bytes) => Answer::content(Some(block), bytes),
        Fetched::OutOfRange => Answer::because(Code::BAD_REQUEST, "the answer has no such block"),
        Fetched::Unknown => {
            Answer::because(Code::REQUEST_ENTITY_INCOMPLETE, "the answer is not held any more: ask from block 0")
        }
    }
}
