//! Datagrams that mean harm: a million of them, random and nearly right.

use std::sync::Arc;

use super::super::fake::{KEY, NOW_MS, Rig, encrypted, key, message_token, non, peer, report, secrets};
use super::super::{PeerKey, Security, Settings};
use crate::codec::coap::{Block, Code, Kind, MessageBuilder, empty, option};
use crate::protocol::{cipher, random};

const DATAGRAMS: u32 = 1_000_000;

/// Reproducible numbers.
struct Random(random::Random);

impl Random {
    fn next(&mut self) -> u64 {
        self.0.draw()
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 16) as usize % bound
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.next() as u8);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let path = "/product1/device1/properties/report";
    let named = |id| MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(1)).path(path);
    let block = |number, more| Block { number, more, size_exponent: 0 }.to_uint();
    let whole = cipher::encrypt(cipher::key(KEY).expect("16 bytes"), b"{}");
    vec![
        report(1),
        non(report(2)),
        encrypted(3, "time-sync", "{}"),
        in_blocks(14, 0).payload(&cipher::encrypt(cipher::key(KEY).expect("16 bytes"), b"{}")).encode(),
        in_blocks(15, 1).encode(),
        in_blocks(16, 0).option(option::TOKEN, &secrets().issue("device1", KEY, NOW_MS)).payload(b"{}").encode(),
        encrypted(4, "child/child1/event/fire", r#"{"data":[1,2,3]}"#),
        named(5).option(option::DEVICE_ID, b"device1").uint(option::BLOCK1, block(0, true)).payload(&[7; 16]).encode(),
        named(6).option(option::DEVICE_ID, b"device1").uint(option::BLOCK1, block(1, true)).payload(&[7; 16]).encode(),
        named(7).option(option::DEVICE_ID, b"device1").uint(option::BLOCK1, block(0, false)).payload(&whole).encode(),
        named(8).option(option::DEVICE_ID, b"stranger").uint(option::CONTENT_FORMAT, 50).payload(&whole).encode(),
        named(9).option(option::DEVICE_ID, b"device1").option(option::TOKEN, &[b'0'; 32]).payload(b"{}").encode(),
        MessageBuilder::new(Kind::Confirmable, Code::POST, 10, message_token(2)).path("/auth").payload(b"{}").encode(),
        with_token(12, "/product1/device1/properties/report"),
        with_token(13, "/product1/device1/nosuch"),
        empty(Kind::Confirmable, 11).to_vec(),
        empty(Kind::Acknowledgement, 1).to_vec(),
        empty(Kind::Reset, 2).to_vec(),
    ]
}

/// A request for the time in blocks of 16 bytes.
fn in_blocks(id: u16, number: u32) -> MessageBuilder {
    MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(4))
        .path("/product1/device1/time-sync")
        .option(option::DEVICE_ID, b"device1")
        .uint(option::BLOCK2, number << 4)
}

/// Datagrams that an endpoint behind DTLS accepts.
fn with_token(id: u16, path: &str) -> Vec<u8> {
    let token = secrets().issue("device1", KEY, NOW_MS);
    MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(3))
        .path(path)
        .option(option::DEVICE_ID, b"device1")
        .option(option::TOKEN, &token)
        .payload(br#"{"properties":{"n":1}}"#)
        .encode()
}

/// The next datagram: noise, or a good one with some bytes changed, cut or added.
fn datagram(random: &mut Random, seeds: &[Vec<u8>], buffer: &mut Vec<u8>) {
    buffer.clear();
    if random.below(4) == 0 {
        buffer.resize(random.below(48), 0);
        random.fill(buffer);
        if let Some(first) = buffer.first_mut() {
            // Mostly version 1, so that more is read than the first byte.
            *first = *first & 0x3f | 0x40;
        }
        return;
    }
    buffer.extend_from_slice(&seeds[random.below(seeds.len())]);
    if random.below(4) > 0 {
        let id = (random.next() as u16).to_be_bytes();
        buffer[2..4].copy_from_slice(&id);
    }
    for _ in 0..random.below(4) {
        let at = random.below(buffer.len());
        match random.below(8) {
            0 => buffer.truncate(at),
            1 => buffer.insert(at, random.next() as u8),
            _ => buffer[at] = random.next() as u8,
        }
        if buffer.is_empty() {
            return;
        }
    }
}

fn small(security: Security) -> Settings {
    Settings {
        exchanges: 200,
        exchanges_per_peer: 8,
        remembered: 500,
        remembered_per_peer: 16,
        blocks_remembered: 100,
        uploads: 20,
        downloads: 10,
        download_bytes: 2_000,
        unproven_bytes: 20_000,
        ..Settings::new(3, security, key())
    }
}

fn flood(mut rig: Rig, settings: &Settings, seed: u64, count: u32) {
    println!("seed {seed}");
    let mut random = Random(random::Random::new(seed.into()));
    let seeds = seeds();
    let mut buffer = Vec::new();
    let (mut written, mut downloads) = (0, 0);
    for number in 0..count {
        datagram(&mut random, &seeds, &mut buffer);
        let from = match random.below(3) {
            0 => peer(1),
            1 => peer(random.below(1000) as u16),
            _ => PeerKey::Session(random.next()),
        };
        rig.registry_waits = random.below(50) > 0;
        rig.feed_raw(from, &buffer);
        if number % 64 == 0 {
            written += settle(&mut rig, &mut random);
            check(&rig, settings);
            downloads += rig.endpoint.held().downloads;
        }
    }
    assert!(written > 1000 && downloads > 1000, "nothing came through, so nothing was tried: {written}, {downloads}");
    for _ in 0..6000 {
        rig.pass_ms(100);
    }
    rig.assert_empty();
    let held = rig.endpoint.held();
    assert_eq!((held.remembered, held.blocks, held.timers, held.downloads, held.download_bytes), (0, 0, 0, 0, 0));
}

/// Time passes, and most records get a receipt.
fn settle(rig: &mut Rig, random: &mut Random) -> usize {
    let published = std::mem::take(&mut rig.world.uplink.published);
    let written = published.len();
    for (id, _) in published {
        match random.below(8) {
            0 => {}
            outcome => drop(rig.act(|endpoint, ctx| endpoint.receipt(id, outcome > 1, ctx))),
        }
    }
    rig.pass_ms(random.below(500) as u64);
    rig.forget_events();
    written
}

fn check(rig: &Rig, settings: &Settings) {
    let held = rig.endpoint.held();
    assert!(held.exchanges <= settings.exchanges, "{held:?}");
    assert!(held.remembered <= settings.remembered, "{held:?}");
    assert!(held.peers <= settings.remembered, "{held:?}");
    assert!(held.blocks <= settings.blocks_remembered, "{held:?}");
    assert!(held.uploads <= settings.uploads, "{held:?}");
    assert!(held.parked_bytes <= settings.unproven_bytes, "{held:?}");
    assert!(held.upload_bytes <= settings.unproven_bytes, "{held:?}");
    assert!(held.downloads <= settings.downloads && held.download_bytes <= settings.download_bytes, "{held:?}");
    assert!(held.timers <= 3 * settings.exchanges, "{held:?}");
    let records_bytes = rig.world.load.held_records * 4096;
    assert!(rig.world.load.held_records <= settings.exchanges);
    assert!(rig.world.load.held_bytes <= held.parked_bytes + held.upload_bytes + records_bytes);
}

#[test]
fn half_a_million_datagrams_do_no_harm_to_an_endpoint_that_decrypts() {
    let settings = small(Security::Aes);
    flood(Rig::with(settings.clone()), &settings, 0x00c0_ffee, DATAGRAMS / 2);
}

#[test]
fn half_a_million_datagrams_do_no_harm_to_an_endpoint_behind_dtls() {
    let security = Security::Dtls { secrets: Arc::new(secrets()), token_ttl_secs: 60 };
    let settings = small(security);
    flood(Rig::with(settings.clone()), &settings, 0xbad_cafe, DATAGRAMS / 2);
}
