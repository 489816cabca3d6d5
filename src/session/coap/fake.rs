//! An endpoint and its world, for tests; the test owns the clock.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Context, Endpoint, Event, FingerprintKey, Observer, Outbox, Parked, PeerKey, Security};
use super::{Settings, TokenSecrets};
use crate::codec::coap::{Code, Kind, Message, MessageBuilder, MessageToken, decode, option};
use crate::protocol::cipher;
use crate::protocol::envelope::Encoder;
use crate::protocol::id::ProductId;
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::uplink::{Availability, RecordRefusal};
use crate::session::fake::{FakeRegistry, FakeUplink, encoder, limits, parse};
use crate::session::identity::{Identity, Lookup};

pub(super) const KEY: &str = "testtesttesttest";
pub(super) const NOW_MS: u64 = 1_700_000_000_000;

/// Events, as text.
#[derive(Default)]
struct FakeObserver(Vec<String>);

impl Observer for FakeObserver {
    fn event(&mut self, _: PeerKey, device: &str, event: Event<'_>) {
        self.0.push(format!("{device} {event:?}"));
    }
}

/// All fakes and settings around the endpoint.
pub(super) struct World {
    pub(super) now: Now,
    pub(super) limits: Limits,
    pub(super) load: Load,
    pub(super) queue: Availability,
    pub(super) uplink: FakeUplink,
    pub(super) registry_away: bool,
    pub(super) encoder: Encoder,
    observer: FakeObserver,
    outbox: Outbox,
}

pub(super) struct Rig {
    pub(super) endpoint: Endpoint,
    pub(super) world: World,
    /// Requests that wait for the registry, while it is asked to wait.
    pub(super) parked: Vec<Parked>,
    pub(super) registry_waits: bool,
}

pub(super) fn peer(number: u16) -> PeerKey {
    PeerKey::Address(SocketAddr::from(([127, 0, 0, 1], number)))
}

pub(super) fn secrets() -> TokenSecrets {
    TokenSecrets::new(b"secret1", None)
}

/// A key that is the same in every test.
pub(super) fn key() -> FingerprintKey {
    FingerprintKey::new([7; 32])
}

pub(super) fn message_token(byte: u8) -> MessageToken {
    MessageToken::new(&[byte, byte]).expect("short")
}

/// A CON POST with option 2100.
pub(super) fn post(id: u16, path: &str) -> MessageBuilder {
    MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(7))
        .path(path)
        .option(option::DEVICE_ID, b"device1")
}

/// A CON with an encrypted body.
pub(super) fn encrypted(id: u16, suffix: &str, json: &str) -> Vec<u8> {
    let body = cipher::encrypt(cipher::key(KEY).expect("16 bytes"), json.as_bytes());
    post(id, &format!("/product1/device1/{suffix}")).payload(&body).encode()
}

/// A report that is CON number `id`.
pub(super) fn report(id: u16) -> Vec<u8> {
    encrypted(id, "properties/report", &format!(r#"{{"messageId":"m{id}","properties":{{"n":{id}}}}}"#))
}

/// The same datagram as a NON.
pub(super) fn non(mut datagram: Vec<u8>) -> Vec<u8> {
    datagram[0] |= 0x10;
    datagram
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Settings::new(3, Security::Aes, key()))
    }

    pub(super) fn dtls() -> Self {
        Self::with(Settings::new(4, Security::Dtls { secrets: Arc::new(secrets()), token_ttl_secs: 3600 }, key()))
    }

    pub(super) fn with(settings: Settings) -> Self {
        let world = World {
            now: Now { unix_ms: NOW_MS, us: 1_000_000 },
            limits: limits(),
            load: Load::default(),
            queue: Availability::Ok,
            uplink: FakeUplink::default(),
            registry_away: false,
            encoder: encoder(),
            observer: FakeObserver::default(),
            outbox: Outbox::default(),
        };
        Self { endpoint: Endpoint::new(settings), world, parked: Vec::new(), registry_waits: false }
    }

    /// Runs `act`; what it sent.
    pub(super) fn act<R>(
        &mut self,
        act: impl FnOnce(&mut Endpoint, &mut Context<'_>) -> R,
    ) -> (R, Vec<(PeerKey, Vec<u8>)>) {
        let world = &mut self.world;
        world.encoder.set_now(world.now.unix_ms);
        let mut ctx = Context {
            now: world.now,
            limits: &world.limits,
            load: &mut world.load,
            encoder: &mut world.encoder,
            uplink: &mut world.uplink,
            children: &FakeRegistry,
            observer: &mut world.observer,
            is_followed: true,
            send: &mut world.outbox,
        };
        let result = act(&mut self.endpoint, &mut ctx);
        let sent = world.outbox.iter().map(|(peer, datagram)| (peer, datagram.to_vec())).collect();
        world.outbox.clear();
        (result, sent)
    }

    /// Feeds a datagram and looks its device up, unless the registry waits; what was sent.
    pub(super) fn feed_raw(&mut self, peer: PeerKey, datagram: &[u8]) -> Vec<(PeerKey, Vec<u8>)> {
        let queue = self.world.queue;
        let (parked, mut sent) = self.act(|endpoint, ctx| endpoint.feed(peer, datagram, queue, ctx));
        self.parked.extend(parked);
        if !self.registry_waits {
            sent.extend(self.look_up());
        }
        sent
    }

    /// Feeds a datagram; what was sent.
    pub(super) fn feed(&mut self, datagram: &[u8]) -> Vec<Message> {
        read(self.feed_raw(peer(1), datagram))
    }

    /// Lets the registry answer.
    pub(super) fn look_up(&mut self) -> Vec<(PeerKey, Vec<u8>)> {
        let away = self.world.registry_away;
        let mut sent = Vec::new();
        for parked in std::mem::take(&mut self.parked) {
            let (secure_key, enabled) = match parked.device.as_str() {
                "device1" => (KEY, true),
                "device2" => ("0123456789ABCDEF", true),
                "disabled1" => (KEY, false),
                "short1" => ("short", true),
                "keyless1" => ("", true),
                _ => ("", false),
            };
            let lookup = match parked.device.as_str() {
                _ if away => Lookup::Away,
                "device1" | "device2" | "disabled1" | "short1" | "keyless1" => {
                    Lookup::Found(identity(secure_key, enabled))
                }
                _ => Lookup::Unknown,
            };
            sent.extend(self.act(|endpoint, ctx| endpoint.device(&parked, &lookup, ctx)).1);
        }
        sent
    }

    /// The queue's receipt for a record, by its place in all that were published.
    pub(super) fn receipt(&mut self, index: usize, stored: bool) -> Vec<Message> {
        let id = self.world.uplink.published[index].0;
        read(self.act(|endpoint, ctx| endpoint.receipt(id, stored, ctx)).1)
    }

    /// A refusal by the queue of a record, by its index among all that were published.
    pub(super) fn refuse(&mut self, index: usize, refusal: &RecordRefusal) -> Vec<Message> {
        let id = self.world.uplink.published[index].0;
        read(self.act(|endpoint, ctx| endpoint.refused(id, refusal, ctx)).1)
    }

    /// Lets time pass, then ticks.
    pub(super) fn pass_ms(&mut self, ms: u64) -> Vec<Message> {
        self.world.now.us += ms * 1000;
        self.world.now.unix_ms += ms;
        read(self.act(|endpoint, ctx| endpoint.tick(ctx)).1)
    }

    /// The envelopes so far.
    pub(super) fn envelopes(&self) -> Vec<serde_json::Value> {
        self.world.uplink.published.iter().map(|(_, record)| parse(&record.payload)).collect()
    }

    /// Whether something like this was told.
    pub(super) fn told(&self, part: &str) -> bool {
        self.world.observer.0.iter().any(|event| event.contains(part))
    }

    pub(super) fn forget_events(&mut self) {
        self.world.observer.0.clear();
    }

    /// Nothing is held for anybody.
    pub(super) fn assert_empty(&self) {
        let held = self.endpoint.held();
        assert_eq!((held.exchanges, held.parked, held.parked_bytes), (0, 0, 0));
        assert_eq!((held.uploads, held.upload_bytes), (0, 0));
        assert_eq!((self.world.load.held_bytes, self.world.load.held_records), (0, 0));
    }
}

fn identity(secure_key: &str, enabled: bool) -> Identity {
    let product = ProductId::new("product1").expect("valid");
    Identity { product, secure_id: "".into(), secure_key: secure_key.into(), enabled, children: [].into() }
}

fn read(sent: Vec<(PeerKey, Vec<u8>)>) -> Vec<Message> {
    sent.iter().map(|(_, datagram)| decode(datagram).expect("what is sent is well formed")).collect()
}

/// The only message of an answer.
pub(super) fn only(sent: &[Message]) -> &Message {
    assert_eq!(sent.len(), 1, "{sent:?}");
    &sent[0]
}
