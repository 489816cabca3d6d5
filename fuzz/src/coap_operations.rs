//! Sequences of datagrams, answers of the registry, receipts and time at one CoAP endpoint, and what holds whatever the
//! sequence is: what is sent is CoAP and goes to peers that spoke; 2.01 comes after the receipt of a record; what is held is
//! bounded and counted exactly; in the end nothing is held.
//!
//! The input is a sequence of operations: what a byte stands for, and for a datagram its length and bytes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use jetlinks_bridge::codec::coap::{Code, MessageBuilder, decode};
use jetlinks_bridge::protocol::cipher;
use jetlinks_bridge::protocol::envelope::{Encoder, Mode};
use jetlinks_bridge::protocol::id::ProductId;
use jetlinks_bridge::protocol::limit::{Limits, Load, Now};
use jetlinks_bridge::protocol::uplink::{Addressing, Availability, DeliveryId, Handover, Record, Uplink};
use jetlinks_bridge::session::coap::{
    Context, Endpoint, Event, FingerprintKey, Observer, Outbox, Parked, PeerKey, Security, Settings, TokenSecrets,
};
use jetlinks_bridge::session::identity::{Identity, Lookup};

use super::world::NoChildren;

/// Key of every device.
pub const KEY: &str = "testtesttesttest";

const LIMITS: Limits = Limits {
    packet_bytes: 1024,
    inflight_per_connection: 4,
    inflight_bytes: 64 * 1024,
    ack_timeout_us: 10_000_000,
    keep_alive_max_us: 0,
    command_timeout_ms: 0,
    command_timeout_max_ms: 0,
    commands_per_device: 0,
    commands: 0,
};

#[derive(Default)]
struct Queue {
    is_away: bool,
    line: VecDeque<DeliveryId>,
    stored: usize,
}

impl Uplink for Queue {
    fn publish(&mut self, id: DeliveryId, _: &Record) -> Handover {
        if self.is_away {
            return Handover::NotTaken;
        }
        self.line.push_back(id);
        Handover::Taken
    }

    fn flush(&mut self) {}
}

struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: PeerKey, _: &str, _: Event<'_>) {}
}

struct Run {
    endpoint: Endpoint,
    settings: Settings,
    encoder: Encoder,
    load: Load,
    queue: Queue,
    now: Now,
    outbox: Outbox,
    parked: Vec<Parked>,
    created: usize,
}

/// Runs the operations that the bytes stand for; the first byte chooses how requests prove whose they are.
pub fn check(data: &[u8]) {
    let Some((&first, mut rest)) = data.split_first() else { return };
    let mut run = Run::new(first & 1 == 1);
    while let [operation, argument, after @ ..] = rest {
        rest = run.apply(*operation, *argument, after);
        run.judge();
    }
    run.finish();
}

fn identity(secure_key: &str, enabled: bool) -> Identity {
    let product = ProductId::new("product1").expect("an id");
    Identity { product, secure_id: "".into(), secure_key: secure_key.into(), enabled, children: [].into() }
}

impl Run {
    fn new(is_dtls: bool) -> Self {
        let security = match is_dtls {
            true => Security::Dtls { secrets: Arc::new(TokenSecrets::new(b"secret1", None)), token_ttl_secs: 3600 },
            false => Security::Aes,
        };
        let mut settings = Settings::new(3, security, FingerprintKey::new([7; 32]));
        settings.exchanges = 8;
        settings.exchanges_per_peer = 4;
        settings.remembered = 16;
        settings.remembered_per_peer = 8;
        settings.blocks_remembered = 16;
        settings.blocks_remembered_per_peer = 8;
        settings.uploads = 4;
        settings.unproven_bytes = 8 * 1024;
        Self {
            endpoint: Endpoint::new(settings.clone()),
            settings,
            encoder: Encoder::new(Mode::Structured, Addressing::Key, "replica1".to_owned(), 7),
            load: Load::default(),
            queue: Queue::default(),
            now: Now { unix_ms: 1_700_000_000_000, us: 1_000_000 },
            outbox: Outbox::default(),
            parked: Vec::new(),
            created: 0,
        }
    }

    fn act<R>(&mut self, act: impl FnOnce(&mut Endpoint, &mut Context<'_>) -> R) -> R {
        self.encoder.set_now(self.now.unix_ms);
        let result = act(
            &mut self.endpoint,
            &mut Context {
                now: self.now,
                limits: &LIMITS,
                load: &mut self.load,
                encoder: &mut self.encoder,
                uplink: &mut self.queue,
                children: &NoChildren,
                observer: &mut Silent,
                is_followed: true,
                send: &mut self.outbox,
            },
        );
        for (_, datagram) in self.outbox.iter() {
            let message = decode(datagram).expect("what is sent is CoAP");
            self.created += usize::from(message.code() == Code::CREATED);
        }
        self.outbox.clear();
        result
    }

    fn apply<'d>(&mut self, operation: u8, argument: u8, rest: &'d [u8]) -> &'d [u8] {
        let peer = PeerKey::Address(SocketAddr::from(([10, 0, 0, operation >> 6], 5683)));
        let (datagram, after) = rest.split_at(usize::from(argument).min(rest.len()));
        match operation % 12 {
            0..=3 => {
                let parked = self.act(|endpoint, ctx| endpoint.feed(peer, datagram, Availability::Ok, ctx));
                self.parked.extend(parked);
                return after;
            }
            // The body as it would be if the device had encrypted it.
            4 => {
                if let Ok(message) = decode(datagram) {
                    let mut draft = MessageBuilder::new(message.kind(), message.code(), message.id(), message.token());
                    for (number, value) in message.options() {
                        draft = draft.option(number, value);
                    }
                    let key = cipher::key(KEY).expect("16 bytes");
                    let datagram = draft.payload(&cipher::encrypt(key, message.payload())).encode();
                    let parked = self.act(|endpoint, ctx| endpoint.feed(peer, &datagram, Availability::Ok, ctx));
                    self.parked.extend(parked);
                }
                return after;
            }
            5 if !self.parked.is_empty() => {
                let parked = self.parked.remove(usize::from(argument) % self.parked.len());
                let lookup = match argument % 8 {
                    6 => Lookup::Unknown,
                    7 => Lookup::Away,
                    5 => Lookup::Found(identity("short", true)),
                    _ => Lookup::Found(identity(KEY, argument % 8 != 4)),
                };
                self.act(|endpoint, ctx| endpoint.device(&parked, &lookup, ctx));
            }
            6 | 7 => {
                if let Some(id) = self.queue.line.pop_front() {
                    let is_stored = operation % 12 == 6;
                    self.queue.stored += usize::from(is_stored);
                    self.act(|endpoint, ctx| endpoint.receipt(id, is_stored, ctx));
                }
            }
            8 => self.pass(u64::from(argument) * 100),
            9 => self.queue.is_away = argument & 1 == 1,
            10 if !self.queue.is_away => {
                self.queue.line.clear();
                self.act(|endpoint, ctx| endpoint.resend(ctx));
            }
            11 => self.act(|endpoint, ctx| endpoint.forget(peer, ctx)),
            _ => {}
        }
        rest
    }

    fn pass(&mut self, ms: u64) {
        self.now.us += ms * 1_000;
        self.now.unix_ms += ms;
        self.act(|endpoint, ctx| endpoint.tick(ctx));
    }

    fn judge(&self) {
        let held = self.endpoint.held();
        assert!(held.exchanges <= self.settings.exchanges && held.remembered <= self.settings.remembered);
        assert!(held.uploads <= self.settings.uploads && held.blocks <= self.settings.blocks_remembered);
        assert!(held.upload_bytes <= self.settings.unproven_bytes && held.parked <= held.exchanges);
        assert!(self.load.held_records <= held.exchanges);
        assert!(self.created == 0 || self.queue.stored > 0, "2.01 before anything was stored");
    }

    fn finish(mut self) {
        for parked in std::mem::take(&mut self.parked) {
            self.act(|endpoint, ctx| endpoint.device(&parked, &Lookup::Unknown, ctx));
        }
        for _ in 0..40 {
            self.pass(30_000);
        }
        let held = self.endpoint.held();
        assert_eq!((held.exchanges, held.parked, held.parked_bytes), (0, 0, 0));
        assert_eq!((held.uploads, held.upload_bytes), (0, 0));
        assert_eq!((self.load.held_records, self.load.held_bytes), (0, 0));
    }
}
