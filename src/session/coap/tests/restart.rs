//! Devices that restart, and begin their message ids and tokens again.

use std::collections::HashSet;

use super::super::fake::{KEY, Rig, message_token, only, report, secrets};
use crate::codec::coap::{Block, Code, Kind, Message, MessageBuilder, empty, option};
use crate::protocol::cipher;
use crate::protocol::random::Random;
use crate::protocol::uplink::{DeliveryId, Record};

const BLOCK_BYTES: usize = 16;

/// A CON whose token is that of every other one of these tests.
fn encrypted(id: u16, json: &str) -> Vec<u8> {
    let body = cipher::encrypt(cipher::key(KEY).expect("16 bytes"), json.as_bytes());
    MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(7))
        .path("/product1/device1/properties/report")
        .option(option::DEVICE_ID, b"device1")
        .payload(&body)
        .encode()
}

/// A report that says how often its device has started.
fn start(count: u32) -> Vec<u8> {
    encrypted(1, &format!(r#"{{"properties":{{"start":{count}}}}}"#))
}

/// Block `number` of raw bytes, over DTLS.
fn block(id: u16, number: usize, body: &[u8]) -> Vec<u8> {
    let end = body.len().min((number + 1) * BLOCK_BYTES);
    let place = Block { number: number as u32, more: end < body.len(), size_exponent: 0 };
    let token = secrets().issue("device1", KEY, u64::MAX);
    MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(7))
        .path("/product1/device1/direct")
        .option(option::DEVICE_ID, b"device1")
        .option(option::TOKEN, &token)
        .uint(option::BLOCK1, place.to_uint())
        .payload(&body[number * BLOCK_BYTES..end])
        .encode()
}

/// Feeds a datagram and stores what it wrote; its answer.
fn ask(rig: &mut Rig, datagram: &[u8]) -> Message {
    let before = rig.world.uplink.published.len();
    let mut sent = rig.feed(datagram);
    if rig.world.uplink.published.len() > before {
        assert!(sent.is_empty(), "answered before the queue had it");
        sent = rig.receipt(before, true);
    }
    only(&sent).clone()
}

/// Sends blocks from the first one on, with message ids from 1 on; the codes of the answers.
fn send(rig: &mut Rig, body: &[u8], blocks: std::ops::Range<usize>) -> Vec<Code> {
    blocks.map(|number| ask(rig, &block(number as u16 + 1, number, body)).code()).collect()
}

/// The payloads that were written, but for so many.
fn written(rig: &Rig, skip: usize) -> Vec<String> {
    let payload = |(_, record): &(DeliveryId, Record)| {
        let envelope: serde_json::Value = serde_json::from_slice(&record.payload).expect("an envelope is JSON");
        envelope["data"]["payload"].as_str().expect("direct").to_owned()
    };
    rig.world.uplink.published[skip..].iter().map(payload).collect()
}

fn base64(body: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(body)
}

#[test]
fn a_device_that_sleeps_and_begins_with_message_id_1_is_stored_each_time() {
    let mut rig = Rig::new();
    for count in 1..=5 {
        assert_eq!(ask(&mut rig, &start(count)).code(), Code::CREATED);
        assert_eq!(ask(&mut rig, &start(count)).code(), Code::CREATED, "its repetition");
        rig.pass_ms(20_000);
    }
    let starts: Vec<_> = rig.envelopes().iter().map(|one| one["data"]["properties"]["start"].as_u64()).collect();
    assert_eq!(starts, [1, 2, 3, 4, 5].map(Some));
    for count in 1..=5 {
        assert_eq!(ask(&mut rig, &start(count)).code(), Code::CREATED);
    }
    assert_eq!(rig.world.uplink.published.len(), 5, "a repetition was written again");
}

#[test]
fn blocks_that_were_sent_before_a_power_cut_are_no_part_of_the_body_behind_it() {
    use Code as C;
    const CONTINUE: Code = C::CONTINUE;
    let first: &[u8] = b"aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccd";
    // Each differs from the first one somewhere.
    let bodies: [&[u8]; 6] = [
        b"AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBCCCCCCCCCCCCCCCCD",
        b"AAAAAAAAAAAAAAAAbbbbbbbbbbbbbbbbccccccccccccccccd",
        b"aaaaaaaaaaaaaaaaBBBBBBBBBBBBBBBBccccccccccccccccd",
        b"aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbCCCCCCCCCCCCCCCCd",
        b"aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccD",
        b"aaaaaaaaaaaaaaaaB",
    ];
    for body in bodies {
        for sent in 1..=3 {
            let mut rig = Rig::dtls();
            assert_eq!(send(&mut rig, first, 0..sent), vec![CONTINUE; sent]);
            let blocks = body.len().div_ceil(BLOCK_BYTES);
            let codes = send(&mut rig, body, 0..blocks);
            assert_eq!((&codes[..blocks - 1], codes[blocks - 1]), (&vec![CONTINUE; blocks - 1][..], C::CREATED));
            assert_eq!(written(&rig, 0), [base64(body)], "after {sent} blocks");
            assert_eq!(rig.world.load.held_bytes, 0);
        }
    }
}

#[test]
fn a_body_that_ends_like_the_one_before_the_restart_is_stored_too() {
    let mut rig = Rig::dtls();
    for body in [b"aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbc", b"AAAAAAAAAAAAAAAAbbbbbbbbbbbbbbbbc"] {
        assert_eq!(send(&mut rig, body, 0..3), [Code::CONTINUE, Code::CONTINUE, Code::CREATED]);
        assert_eq!(send(&mut rig, body, 2..3), [Code::CREATED], "its repetition");
        rig.pass_ms(1000);
        assert_eq!(written(&rig, 0).last(), Some(&base64(body)));
    }
    assert_eq!(rig.world.uplink.published.len(), 2);
    // Byte for byte the same is a repetition.
    let body = b"AAAAAAAAAAAAAAAAbbbbbbbbbbbbbbbbc";
    assert_eq!(send(&mut rig, body, 0..3), [Code::CONTINUE, Code::CONTINUE, Code::CREATED]);
    assert_eq!(rig.world.uplink.published.len(), 2);
}

#[test]
fn an_end_that_came_before_the_restart_is_no_end_of_a_body_that_is_no_longer_open() {
    let mut rig = Rig::dtls();
    let [first, second] = [b"aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbc", b"AAAAAAAAAAAAAAAABBBBBBBBBBBBBBBBc"];
    assert_eq!(send(&mut rig, first, 0..3).last(), Some(&Code::CREATED));
    rig.pass_ms(1000);
    assert_eq!(send(&mut rig, second, 0..2), [Code::CONTINUE; 2]);
    // Longer than a client waits for an answer, and shorter than an id may not be used again.
    for _ in 0..100 {
        rig.pass_ms(1000);
    }
    assert_eq!(rig.endpoint.held().uploads, 0);
    assert_eq!(send(&mut rig, second, 2..3), [Code::REQUEST_ENTITY_INCOMPLETE], "the body was not stored");
}

#[test]
fn a_body_that_was_too_large_before_the_restart_is_refused_again() {
    let mut rig = Rig::dtls();
    rig.world.limits.packet_bytes = 20;
    let body = [b'x'; 40];
    assert_eq!(send(&mut rig, &body, 0..2), [Code::CONTINUE, Code::REQUEST_ENTITY_TOO_LARGE]);
    assert_eq!(send(&mut rig, &body, 1..2), [Code::REQUEST_ENTITY_TOO_LARGE], "its repetition");
    assert_eq!(rig.world.uplink.published.len(), 1);
}

#[test]
fn two_requests_with_one_message_id_and_token_are_both_written_and_answered() {
    let mut rig = Rig::new();
    assert!(rig.feed(&start(1)).is_empty() && rig.feed(&start(2)).is_empty());
    assert!(rig.feed(&start(1)).is_empty() && rig.feed(&start(2)).is_empty(), "repetitions");
    assert_eq!(rig.world.uplink.published.len(), 2);
    let first = rig.receipt(0, true);
    assert_eq!((only(&first).id(), only(&first).code()), (1, Code::CREATED));
    assert_eq!(rig.feed(&start(1)), first);
    assert!(rig.feed(&start(2)).is_empty(), "the answer to another request was given");
    let second = rig.receipt(1, false);
    assert_eq!(only(&second).code(), Code::SERVICE_UNAVAILABLE);
    assert_eq!((rig.feed(&start(1)), rig.feed(&start(2))), (first, second));
    rig.assert_empty();
}

#[test]
fn answers_of_their_own_have_message_ids_that_no_other_answer_has() {
    let mut rig = Rig::new();
    let token = |number: u8| {
        let mut datagram = report(1);
        datagram[4] = number;
        datagram
    };
    for number in 0..3 {
        rig.feed(&token(number));
    }
    rig.pass_ms(1000);
    let answers: Vec<Message> = (0..3).flat_map(|index| rig.receipt(index, true)).collect();
    assert!(answers.iter().all(|answer| answer.kind() == Kind::Confirmable));
    let mut ids: Vec<u16> = answers.iter().map(Message::id).collect();
    ids.dedup();
    assert_eq!(ids.len(), 3, "the device takes the later one for a repetition");
    for (left, id) in [(2, ids[1]), (2, ids[1]), (1, ids[0]), (0, ids[2])] {
        rig.feed(&empty(Kind::Acknowledgement, id));
        assert_eq!(rig.endpoint.in_flight(), left);
    }
}

#[test]
fn an_answer_of_its_own_is_not_sent_again_to_a_device_that_asks_something_else_under_its_token() {
    let mut rig = Rig::new();
    rig.feed(&start(1));
    rig.pass_ms(1000);
    assert_eq!(only(&rig.receipt(0, true)).code(), Code::CREATED);
    rig.feed(&start(1));
    assert_eq!(rig.endpoint.in_flight(), 1, "a repetition ended the answer to its request");
    rig.feed(&start(2));
    assert_eq!(rig.endpoint.in_flight(), 1);
    rig.world.limits.ack_timeout_us = u64::MAX / 2;
    for _ in 0..600 {
        let sent = rig.pass_ms(100);
        assert!(sent.iter().all(|sent| sent.code() == Code::EMPTY), "it is taken for the answer to the later request");
    }
    assert_eq!(only(&rig.receipt(1, true)).code(), Code::CREATED);
}

/// A device that is cut off at any moment, with bodies that have many blocks in common.
struct Device {
    random: Random,
    id: u16,
    /// Messages written so far.
    written: usize,
    /// Message id of the first block of each body that was written, and the body.
    stored: HashSet<(u16, Vec<u8>)>,
    confirmed: u32,
}

impl Device {
    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn body(&mut self) -> Vec<u8> {
        let blocks = 1 + self.below(4);
        let mut body: Vec<u8> = (0..blocks).flat_map(|_| [b'a' + self.below(2) as u8; BLOCK_BYTES]).collect();
        body.push(b'y' + self.below(2) as u8);
        body
    }

    /// Sends a body, from its first block on again when it is told to; whether the power was there to the end.
    fn upload(&mut self, rig: &mut Rig, body: &[u8]) -> bool {
        let blocks = body.len().div_ceil(BLOCK_BYTES);
        let mut number = 0;
        let mut first_id = self.id + 1;
        for _ in 0..200 {
            if self.below(8) == 0 {
                return false;
            }
            self.id += 1;
            let datagram = block(self.id, number, body);
            rig.world.now.us += 1000;
            let code = ask(rig, &datagram).code();
            for payload in written(rig, self.written) {
                assert_eq!((payload, number + 1), (base64(body), blocks), "a body was written that nobody sent");
                self.written += 1;
                self.stored.insert((first_id, body.to_vec()));
            }
            for _ in 0..self.below(3) / 2 {
                assert_eq!(ask(rig, &datagram).code(), code, "a repetition was answered otherwise");
                assert_eq!(rig.world.uplink.published.len(), self.written, "a repetition was written");
            }
            match code {
                Code::CONTINUE => number += 1,
                Code::REQUEST_ENTITY_INCOMPLETE => (number, first_id) = (0, self.id + 1),
                code => {
                    assert_eq!((code, number + 1), (Code::CREATED, blocks));
                    assert!(self.stored.contains(&(first_id, body.to_vec())), "confirmed, and not stored");
                    self.confirmed += 1;
                    return true;
                }
            }
        }
        panic!("a body was refused again and again");
    }
}

#[test]
fn whatever_a_device_sends_between_power_cuts_its_bodies_alone_are_written_and_all_that_are_confirmed() {
    for seed in 1..=20_u64 {
        println!("seed {seed}");
        let mut rig = Rig::dtls();
        let random = Random::new(seed.into());
        let mut device = Device { random, id: 0, written: 0, stored: HashSet::new(), confirmed: 0 };
        for _ in 0..200 {
            device.id = 0;
            for _ in 0..=device.below(2) {
                let body = device.body();
                if !device.upload(&mut rig, &body) {
                    break;
                }
            }
            rig.pass_ms([100, 5_000, 100_000][device.below(3) as usize]);
        }
        assert!(device.confirmed > 50, "nothing was tried");
    }
}
