//! Clients and an endpoint over a link that loses, repeats, delays and reorders datagrams.

use std::collections::{BTreeMap, HashMap};

use super::super::PeerKey;
use super::super::fake::{KEY, Rig, peer};
use crate::codec::coap::{Block, Code, Kind, Message, MessageBuilder, MessageToken, decode, empty, option};
use crate::protocol::cipher;
use crate::protocol::random::Random;

const SECOND: u64 = 1_000_000;
const CLIENTS: u16 = 8;
const MESSAGES: u32 = 60;

/// Datagrams on their way, by the time of their arrival.
#[derive(Default)]
struct Link {
    flying: BTreeMap<(u64, u64), (PeerKey, bool, Vec<u8>)>,
    count: u64,
}

impl Link {
    /// Sends a datagram to the endpoint (`up`) or to the client of that address.
    fn send(&mut self, now_us: u64, peer: PeerKey, up: bool, datagram: &[u8], random: &mut Random) {
        let copies = [80, 20].map(|chance| random.below(100) < chance);
        for _ in copies.iter().filter(|sent| **sent) {
            // Now and then one is so late that it arrives among later messages.
            let delay_us = if random.below(100) < 5 { random.below(20 * SECOND) } else { random.below(SECOND / 10) };
            self.count += 1;
            self.flying.insert((now_us + delay_us, self.count), (peer, up, datagram.to_vec()));
        }
    }
}

/// One request on its way, as RFC 7252 section 4.2 wants a client to treat it.
struct Sending {
    datagram: Vec<u8>,
    id: u16,
    token: MessageToken,
    acknowledged: bool,
    retransmissions: u32,
    due_us: u64,
}

/// A device that sends its messages one after the other; every fourth is large and goes in blocks.
struct Client {
    peer: PeerKey,
    next_id: u16,
    /// Names each message and each try of it.
    number: u32,
    body: Vec<u8>,
    block: u32,
    sending: Option<Sending>,
    /// Answers got: 2.01 or not.
    confirmed: Vec<String>,
    answers: HashMap<Code, u32>,
    given_up: u32,
}

const BLOCK_BYTES: usize = 64;

impl Client {
    fn new(number: u16) -> Self {
        Self {
            peer: peer(number),
            next_id: number.wrapping_mul(9999),
            number: 0,
            body: Vec::new(),
            block: 0,
            sending: None,
            confirmed: Vec::new(),
            answers: HashMap::new(),
            given_up: 0,
        }
    }

    fn name(&self) -> String {
        let PeerKey::Address(address) = self.peer else { panic!("clients have addresses") };
        format!("{}-{}", address.port(), self.number)
    }

    fn is_done(&self) -> bool {
        self.number > MESSAGES && self.sending.is_none()
    }

    fn begin_message(&mut self) {
        self.number += 1;
        if self.is_done() {
            return;
        }
        let filler = "x".repeat(if self.number.is_multiple_of(4) { 300 } else { 0 });
        let json = format!(r#"{{"messageId":"{}","properties":{{"text":"{filler}"}}}}"#, self.name());
        self.body = cipher::encrypt(cipher::key(KEY).expect("16 bytes"), json.as_bytes());
        self.block = 0;
    }

    /// Sends the next piece of the message.
    fn begin_sending(&mut self, now_us: u64, link: &mut Link, random: &mut Random) {
        self.next_id = self.next_id.wrapping_add(1);
        let id = self.next_id;
        let token = MessageToken::new(&id.to_be_bytes()).expect("short");
        let mut draft = MessageBuilder::new(Kind::Confirmable, Code::POST, id, token)
            .path("/product1/device1/properties/report")
            .option(option::DEVICE_ID, b"device1");
        let start = self.block as usize * BLOCK_BYTES;
        let end = self.body.len().min(start + BLOCK_BYTES);
        let in_blocks = self.body.len() > 2 * BLOCK_BYTES;
        if in_blocks {
            let block = Block { number: self.block, more: end < self.body.len(), size_exponent: 2 };
            draft = draft.uint(option::BLOCK1, block.to_uint()).payload(&self.body[start..end]);
        } else {
            draft = draft.payload(&self.body);
        }
        let datagram = draft.encode();
        link.send(now_us, self.peer, true, &datagram, random);
        let due_us = now_us + 2 * SECOND + random.below(SECOND);
        self.sending = Some(Sending { datagram, id, token, acknowledged: false, retransmissions: 0, due_us });
    }

    fn take(&mut self, message: &Message, now_us: u64, link: &mut Link, random: &mut Random) {
        if message.kind() == Kind::Confirmable {
            link.send(now_us, self.peer, true, &empty(Kind::Acknowledgement, message.id()), random);
        }
        let Some(sending) = &mut self.sending else { return };
        if message.code() == Code::EMPTY {
            sending.acknowledged |= message.id() == sending.id;
            return;
        }
        if message.token() != sending.token {
            return;
        }
        self.sending = None;
        *self.answers.entry(message.code()).or_default() += 1;
        match message.code() {
            Code::CONTINUE => self.block += 1,
            code => {
                if code == Code::CREATED {
                    self.confirmed.push(self.name());
                }
                self.begin_message();
            }
        }
    }

    fn tick(&mut self, now_us: u64, link: &mut Link, random: &mut Random) {
        let Some(sending) = &mut self.sending else {
            if self.number == 0 {
                self.begin_message();
            }
            if !self.is_done() {
                self.begin_sending(now_us, link, random);
            }
            return;
        };
        if now_us < sending.due_us {
            return;
        }
        if sending.acknowledged || sending.retransmissions == 4 {
            if !sending.acknowledged || now_us >= sending.due_us + 100 * SECOND {
                self.sending = None;
                self.given_up += 1;
                self.begin_message();
            }
            return;
        }
        sending.retransmissions += 1;
        sending.due_us = now_us + (2 << sending.retransmissions) * SECOND;
        link.send(now_us, self.peer, true, &sending.datagram, random);
    }
}

/// A queue that takes its time, and now and then fails.
fn settle_queue(rig: &mut Rig, due: &mut BTreeMap<(u64, usize), bool>, known: &mut usize, random: &mut Random) {
    while *known < rig.world.uplink.published.len() {
        let delay_us = if random.below(100) < 20 { random.below(4 * SECOND) } else { random.below(SECOND / 50) };
        due.insert((rig.world.now.us + delay_us, *known), random.below(100) >= 5);
        *known += 1;
    }
}

#[test]
fn exactly_one_record_exists_for_every_confirmed_con() {
    for seed in [1, 0x5eed, 0xfeed_f00d, 42_424_242] {
        println!("seed {seed}");
        run(seed);
    }
}

fn run(seed: u64) {
    let mut random = Random::new(seed.into());
    let mut rig = Rig::new();
    let mut link = Link::default();
    let mut clients: Vec<Client> = (1..=CLIENTS).map(Client::new).collect();
    let mut receipts = BTreeMap::new();
    let mut known = 0;
    let mut ticks = 0;
    while !clients.iter().all(Client::is_done) {
        ticks += 1;
        assert!(ticks < 200_000, "the clients never come to an end");
        rig.world.now.us += SECOND / 20;
        rig.world.now.unix_ms += 50;
        let now_us = rig.world.now.us;
        let mut sent = rig.act(|endpoint, ctx| endpoint.tick(ctx)).1;
        while let Some(entry) = link.flying.first_entry().filter(|entry| entry.key().0 <= now_us) {
            let (from, up, datagram) = entry.remove();
            if up {
                sent.extend(rig.feed_raw(from, &datagram));
            } else {
                let message = decode(&datagram).expect("what is sent is well formed");
                let client = clients.iter_mut().find(|client| client.peer == from).expect("a client's address");
                client.take(&message, now_us, &mut link, &mut random);
            }
        }
        settle_queue(&mut rig, &mut receipts, &mut known, &mut random);
        while let Some(entry) = receipts.first_entry().filter(|entry| entry.key().0 <= now_us) {
            let ((_, index), stored) = entry.remove_entry();
            let token = rig.world.uplink.published[index].0;
            sent.extend(rig.act(|endpoint, ctx| endpoint.receipt(token, stored, ctx)).1);
        }
        for (to, datagram) in sent {
            link.send(now_us, to, false, &datagram, &mut random);
        }
        clients.iter_mut().for_each(|client| client.tick(now_us, &mut link, &mut random));
    }
    verify(&rig, &clients);
    for _ in 0..6000 {
        rig.pass_ms(50);
    }
    assert_eq!(rig.endpoint.in_flight(), 0);
    assert_eq!((rig.world.load.held_bytes, rig.world.load.held_records), (0, 0));
}

fn verify(rig: &Rig, clients: &[Client]) {
    let mut records: HashMap<String, u32> = HashMap::new();
    for envelope in rig.envelopes() {
        assert_eq!(envelope["type"], "org.jetlinks.device.properties.report", "{envelope}");
        let name = envelope["data"]["messageId"].as_str().expect("a report");
        *records.entry(name.to_owned()).or_default() += 1;
    }
    let confirmed: Vec<&String> = clients.iter().flat_map(|client| &client.confirmed).collect();
    for name in &confirmed {
        assert_eq!(records.get(*name), Some(&1), "{name} was confirmed");
    }
    assert!(records.values().all(|count| *count == 1), "a request was written twice");
    let answers = |code| clients.iter().filter_map(|client| client.answers.get(&code)).sum::<u32>();
    let given_up: u32 = clients.iter().map(|client| client.given_up).sum();
    println!("{} confirmed, {} unavailable, {given_up} given up", confirmed.len(), answers(Code::SERVICE_UNAVAILABLE));
    let all = u32::from(CLIENTS) * MESSAGES;
    assert!(confirmed.len() as u32 > all * 3 / 4, "the link carried too little to prove anything");
    assert!(answers(Code::CONTINUE) > 100 && answers(Code::SERVICE_UNAVAILABLE) > 0);
    assert!(rig.told("Duplicate") && rig.told("Retransmitted"));
}
