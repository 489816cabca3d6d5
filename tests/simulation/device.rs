//! A device: an MQTT client that speaks by bytes, keeps what was not acknowledged and sends it again.

use std::collections::{BTreeSet, VecDeque};

use jetlinks_bridge::codec::mqtt::{
    self, Connect, Credentials, Packet, PacketId, Publish, PublishHead, Qos, Version, Will, encode,
};
use jetlinks_bridge::protocol::auth;

use crate::mark::Mark;
use crate::random::Random;
use crate::schedule::{MS, S};
use crate::violation::Violation;

/// Product of all devices, and their secrets.
pub(crate) const PRODUCT: &str = "product1";
pub(crate) const SECURE_ID: &str = "test";
pub(crate) const SECURE_KEY: &str = "testtesttesttest";

/// A device that is a gateway, the child that comes and goes with it, and the product of that.
pub(crate) const GATEWAY: &str = "device1";
pub(crate) const CHILD: &str = "child1";
pub(crate) const CHILD_PRODUCT: &str = "product2";

/// Messages that a device has unacknowledged at most: more than a session takes in.
const UNACKNOWLEDGED_MAX: usize = 12;

/// Silence that the device allows itself, and what it bears of the other side.
const KEEP_ALIVE_SECS: u16 = 10;
const SILENCE_US: u64 = 15 * S;

/// How long it waits for its CONNACK.
const CONNACK_US: u64 = 5 * S;

/// Shapes of messages. All of them are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One that is understood.
    Event,
    /// One that the queue never takes: a rejected envelope takes its place.
    Refused,
    /// A body that cannot be read.
    Broken,
    /// No such topic.
    Unknown,
    /// Larger than may be.
    Large,
}

/// Stands in the topic of a message that the queue refuses.
pub(crate) const REFUSED: &str = "refused";

impl Shape {
    fn draw(random: &mut Random) -> Self {
        match random.below(40) {
            0 => Shape::Refused,
            1 => Shape::Broken,
            2 => Shape::Unknown,
            3 => Shape::Large,
            _ => Shape::Event,
        }
    }
}

/// A message that was sent and not acknowledged.
#[derive(Debug, Clone, Copy)]
struct Message {
    number: usize,
    packet_id: PacketId,
    qos: Qos,
    shape: Shape,
    /// When it was sent on the present connection.
    sent_us: u64,
}

/// How far the device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has no connection, and makes one at that time.
    Away(u64),
    /// It waits for CONNACK since then.
    Connecting(u64),
    /// It is connected.
    Connected,
}

/// Requests of the device to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Make a connection.
    Open,
    /// Send bytes.
    Send(Vec<u8>),
    /// Close the connection.
    Close,
    /// Leave the connection as it is, without a word.
    Vanish,
    /// It has read the acknowledgement of that copy.
    Acknowledged(Mark),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) index: usize,
    pub(crate) id: String,
    pub(crate) stage: Stage,
    /// Whether it goes on to send messages, and whether it connects again.
    pub(crate) is_busy: bool,
    pub(crate) wants_session: bool,
    /// Numbers of acknowledged messages that have a place in the order.
    pub(crate) acknowledged: Vec<usize>,
    pub(crate) connections: u32,
    last_number: usize,
    unacknowledged: VecDeque<Message>,
    input: Vec<u8>,
    next_packet_id: PacketId,
    /// QoS 2 messages whose PUBCOMP it waits for.
    releasing: BTreeSet<PacketId>,
    heard_us: u64,
    spoke_us: u64,
    deeds: Vec<Deed>,
}

impl Device {
    /// A device that connects soon.
    pub(crate) fn new(index: usize) -> Self {
        Self {
            index,
            id: format!("device{}", index + 1),
            stage: Stage::Away(0),
            is_busy: true,
            wants_session: true,
            acknowledged: Vec::new(),
            connections: 0,
            last_number: 0,
            unacknowledged: VecDeque::new(),
            input: Vec::new(),
            next_packet_id: PacketId::MIN,
            releasing: BTreeSet::new(),
            heard_us: 0,
            spoke_us: 0,
            deeds: Vec::new(),
        }
    }

    /// Its requests, in order.
    pub(crate) fn take_deeds(&mut self) -> Vec<Deed> {
        std::mem::take(&mut self.deeds)
    }

    /// Messages that were sent and not acknowledged.
    pub(crate) fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Since when it waits for an acknowledgement on its connection, us.
    pub(crate) fn waits_since_us(&self) -> Option<u64> {
        self.unacknowledged.front().filter(|_| self.stage == Stage::Connected).map(|message| message.sent_us)
    }

    /// Does what it does by itself; to be called every now and then. `unix_ms` is its clock.
    pub(crate) fn act(&mut self, now_us: u64, unix_ms: u64, random: &mut Random) {
        match self.stage {
            Stage::Away(until_us) if now_us >= until_us && self.wants_session => self.connect(now_us, unix_ms, random),
            Stage::Connecting(since_us) if now_us >= since_us + CONNACK_US => self.close(now_us, random),
            Stage::Connected if now_us >= self.heard_us + SILENCE_US => self.close(now_us, random),
            Stage::Connected if !self.wants_session && self.unacknowledged.is_empty() => self.leave(now_us, random),
            Stage::Connected => {
                for _ in 0..random.below(4) {
                    if self.is_busy && self.unacknowledged.len() < UNACKNOWLEDGED_MAX {
                        self.publish(now_us, random);
                    }
                }
                if now_us >= self.spoke_us + u64::from(KEEP_ALIVE_SECS) * S / 2 {
                    self.say(&encode::PINGREQ, now_us);
                }
            }
            Stage::Away(_) | Stage::Connecting(_) => {}
        }
    }

    /// Ends the session in good order.
    pub(crate) fn leave(&mut self, now_us: u64, random: &mut Random) {
        if self.stage == Stage::Connected {
            self.say(&encode::DISCONNECT, now_us);
        }
        self.close(now_us, random);
    }

    /// Loses its power: the other side hears nothing of it.
    pub(crate) fn vanish(&mut self, now_us: u64, random: &mut Random) {
        if !matches!(self.stage, Stage::Away(_)) {
            self.deeds.push(Deed::Vanish);
            self.rest(now_us, random);
        }
    }

    /// The connection is gone.
    pub(crate) fn end(&mut self, now_us: u64, random: &mut Random) {
        if !matches!(self.stage, Stage::Away(_)) {
            self.close(now_us, random);
        }
    }

    fn close(&mut self, now_us: u64, random: &mut Random) {
        self.deeds.push(Deed::Close);
        self.rest(now_us, random);
    }

    fn rest(&mut self, now_us: u64, random: &mut Random) {
        let pause_us = if random.happens(700) { random.between(MS, S) } else { random.between(S, 8 * S) };
        self.stage = Stage::Away(now_us + pause_us);
        self.input.clear();
        self.releasing.clear();
    }

    fn connect(&mut self, now_us: u64, unix_ms: u64, random: &mut Random) {
        self.connections += 1;
        self.heard_us = now_us;
        self.stage = Stage::Connecting(now_us);
        self.deeds.push(Deed::Open);
        let username = format!("{SECURE_ID}|{unix_ms}");
        let password = auth::sign(&username, SECURE_KEY);
        let topic = format!("/{PRODUCT}/{}/event/will", self.id);
        let will = Will { topic: &topic, payload: b"{}", qos: Qos::AtMostOnce, retain: false };
        let connect = Connect {
            version: Version::V311,
            clean_session: true,
            keep_alive_secs: KEEP_ALIVE_SECS,
            client_id: &self.id,
            will: random.happens(300).then_some(will),
            credentials: Credentials { username: Some(&username), password: Some(&password[..]) },
        };
        let mut bytes = Vec::new();
        encode::connect(&mut bytes, &connect);
        self.say(&bytes, now_us);
    }

    fn publish(&mut self, now_us: u64, random: &mut Random) {
        self.last_number += 1;
        let qos = random.pick(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]);
        let qos = qos.expect("there are some");
        let packet_id = self.packet_id();
        let message = Message { number: self.last_number, packet_id, qos, shape: Shape::draw(random), sent_us: now_us };
        if qos != Qos::AtMostOnce {
            self.unacknowledged.push_back(message);
        }
        self.send(message, false, now_us);
    }

    fn packet_id(&mut self) -> PacketId {
        let packet_id = self.next_packet_id;
        // Few are in use at a time.
        self.next_packet_id = packet_id.checked_add(1).filter(|id| id.get() < 1000).unwrap_or(PacketId::MIN);
        packet_id
    }

    fn send(&mut self, message: Message, dup: bool, now_us: u64) {
        let mark = self.mark(message.number);
        let (suffix, payload) = match message.shape {
            Shape::Event => (format!("event/{mark}"), br#"{"data":1}"#.to_vec()),
            Shape::Refused => (format!("event/{mark}{REFUSED}"), br#"{"data":1}"#.to_vec()),
            Shape::Broken => (format!("event/{mark}"), br#"{"timestamp":[]}"#.to_vec()),
            Shape::Unknown => (format!("nosuch/{mark}"), b"{}".to_vec()),
            Shape::Large => (format!("event/{mark}"), vec![b' '; 1500]),
        };
        let topic = format!("/{PRODUCT}/{}/{suffix}", self.id);
        let packet_id = (message.qos != Qos::AtMostOnce).then_some(message.packet_id);
        let head = PublishHead { dup, qos: message.qos, retain: false, topic: &topic, packet_id };
        let mut bytes = Vec::new();
        encode::publish(&mut bytes, &Publish { head, payload: &payload });
        self.say(&bytes, now_us);
    }

    fn mark(&self, number: usize) -> Mark {
        Mark { device: self.index, number, connection: self.connections }
    }

    fn say(&mut self, bytes: &[u8], now_us: u64) {
        self.spoke_us = now_us;
        self.deeds.push(Deed::Send(bytes.to_vec()));
    }

    /// Reads bytes from the bridge.
    pub(crate) fn read(&mut self, bytes: &[u8], now_us: u64, random: &mut Random) -> Result<(), Violation> {
        self.heard_us = now_us;
        let mut input = std::mem::take(&mut self.input);
        input.extend_from_slice(bytes);
        let mut used = 0;
        while let Some(frame) = mqtt::frame(&input[used..]).expect("the bridge sends packets") {
            let end = used + frame.total_bytes();
            if end > input.len() || matches!(self.stage, Stage::Away(_)) {
                break;
            }
            let body = &input[used + frame.header_bytes..end];
            let packet = mqtt::decode(Version::V311, frame.first_byte, body).expect("the bridge sends packets");
            self.take(packet, now_us, random)?;
            used = end;
        }
        if !matches!(self.stage, Stage::Away(_)) {
            self.input = input.split_off(used);
        }
        Ok(())
    }

    fn take(&mut self, packet: Packet<'_>, now_us: u64, random: &mut Random) -> Result<(), Violation> {
        match packet {
            Packet::Connack(_, 0) => self.begin(now_us, random),
            // Refused: it comes again later.
            Packet::Connack(..) => self.close(now_us, random),
            Packet::Puback(id) => self.settle(id, Qos::AtLeastOnce)?,
            Packet::Pubrec(id) => {
                if self.releasing.insert(id) {
                    self.settle(id, Qos::ExactlyOnce)?;
                }
                self.say(&encode::pubrel(id), now_us);
            }
            Packet::Pubcomp(id) => drop(self.releasing.remove(&id)),
            Packet::Publish(publish) => self.answer(&publish, now_us, random),
            _ => {}
        }
        Ok(())
    }

    /// Connected: what was not acknowledged is sent again, before anything else.
    fn begin(&mut self, now_us: u64, random: &mut Random) {
        self.stage = Stage::Connected;
        if random.happens(500) {
            let mut bytes = Vec::new();
            let filter = format!("/{PRODUCT}/{}/#", self.id);
            encode::subscribe(&mut bytes, PacketId::MAX, &[(&filter, Qos::AtLeastOnce)]);
            self.say(&bytes, now_us);
        }
        self.unacknowledged.iter_mut().for_each(|message| message.sent_us = now_us);
        for message in self.unacknowledged.clone() {
            self.send(message, true, now_us);
        }
    }

    /// Notes an acknowledgement, which must be that of the oldest message.
    fn settle(&mut self, packet_id: PacketId, qos: Qos) -> Result<(), Violation> {
        let oldest = self.unacknowledged.pop_front_if(|oldest| (oldest.packet_id, oldest.qos) == (packet_id, qos));
        let Some(message) = oldest else {
            let text = format!("packet {packet_id} of {}, which waits for {:?}", self.id, self.unacknowledged.front());
            return Err(Violation::Acknowledgement(text));
        };
        if message.shape == Shape::Event {
            self.acknowledged.push(message.number);
        }
        let mark = self.mark(message.number);
        self.deeds.push(Deed::Acknowledged(mark));
        Ok(())
    }

    /// Answers a command, mostly.
    fn answer(&mut self, publish: &Publish<'_>, now_us: u64, random: &mut Random) {
        if let Some(packet_id) = publish.head.packet_id.filter(|_| random.happens(900)) {
            self.say(&encode::puback(packet_id), now_us);
        }
        if !publish.head.topic.ends_with("/properties/read") || random.happens(150) {
            return;
        }
        let body: serde_json::Value = serde_json::from_slice(publish.payload).expect("a command is JSON");
        let message_id = body["messageId"].as_str().expect("a command has an id");
        let properties = if random.happens(50) { "1" } else { "{}" };
        let payload = format!(r#"{{"messageId":"{message_id}","properties":{properties}}}"#);
        let topic = format!("/{PRODUCT}/{}/properties/read/reply", self.id);
        let head = PublishHead { dup: false, qos: Qos::AtMostOnce, retain: false, topic: &topic, packet_id: None };
        for _ in 0..if random.happens(50) { 2 } else { 1 } {
            let mut bytes = Vec::new();
            encode::publish(&mut bytes, &Publish { head, payload: payload.as_bytes() });
            self.say(&bytes, now_us);
        }
    }
}
