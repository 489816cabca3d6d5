//! Answers in blocks (RFC 7959, Block2).

use super::super::fake::{KEY, NOW_MS, Rig, message_token, non, only, peer, post, secrets};
use super::super::{PeerKey, sign_token_request};
use crate::codec::coap::{Block, Code, Kind, Message, MessageBuilder, decode, option};
use crate::protocol::cipher;

const TIME_SYNC: &str = "/product1/device1/time-sync";

fn block2(number: u32, size_exponent: u8) -> u32 {
    Block { number, more: false, size_exponent }.to_uint()
}

/// A request for a token.
fn auth(id: u16) -> MessageBuilder {
    let payload = format!(r#"{{"timestamp":"{NOW_MS}"}}"#);
    let signature = sign_token_request(payload.as_bytes(), KEY);
    post(id, "/auth").option(option::SIGNATURE, &signature).payload(payload.as_bytes())
}

/// A request for the time.
fn time_sync(id: u16, json: &[u8]) -> MessageBuilder {
    post(id, TIME_SYNC).payload(&cipher::encrypt(cipher::key(KEY).expect("16 bytes"), json))
}

fn ask(rig: &mut Rig, draft: &MessageBuilder) -> Message {
    only(&rig.feed(&draft.encode())).clone()
}

/// Fetches the blocks behind the first one, with the same options and no payload; all of the answer.
fn fetch(rig: &mut Rig, first: &Message, path: &str) -> Vec<u8> {
    let mut body = first.payload().to_vec();
    let mut block = Block::from_uint(first.uint(option::BLOCK2).expect("it is a block")).expect("a size");
    assert_eq!(block.number, 0);
    while block.more {
        assert_eq!(body.len() % block.bytes(), 0, "a block that is not the last is full");
        let number = block.number + 1;
        let draft = post(1000 + number as u16, path).uint(option::BLOCK2, block2(number, block.size_exponent));
        let answer = ask(rig, &draft);
        assert_eq!((answer.kind(), answer.code()), (Kind::Acknowledgement, Code::CONTENT));
        assert_eq!(answer.uint(option::CONTENT_FORMAT), Some(50));
        block = Block::from_uint(answer.uint(option::BLOCK2).expect("it is a block")).expect("a size");
        assert_eq!(block.number, number);
        assert!(answer.payload().len() <= block.bytes());
        body.extend_from_slice(answer.payload());
    }
    body
}

#[test]
fn no_block_of_an_answer_is_longer_than_the_client_wants() {
    for size_exponent in 0..=6 {
        let mut rig = Rig::dtls();
        let first = ask(&mut rig, &auth(1).uint(option::BLOCK2, block2(0, size_exponent)));
        assert_eq!(first.code(), Code::CONTENT);
        assert!(first.payload().len() <= 16 << size_exponent);
        let answer: serde_json::Value = serde_json::from_slice(&fetch(&mut rig, &first, "/auth")).expect("JSON");
        let token = answer["token"].as_str().expect("a token");
        assert_eq!(secrets().verify(token.as_bytes(), "device1", KEY, NOW_MS / 1000), Ok(()));
        assert_eq!(rig.endpoint.held().downloads, usize::from(size_exponent < 2));
    }
}

#[test]
fn the_time_is_told_in_blocks_behind_a_request_in_blocks() {
    let mut rig = Rig::new();
    let json = br#"{"messageId":"a request with a name of its own"}"#;
    let body = cipher::encrypt(cipher::key(KEY).expect("16 bytes"), json);
    let (one, two) = body.split_at(32);
    let part = |id: u16, number: u32, bytes: &[u8]| {
        let block = Block { number, more: number == 0, size_exponent: 1 };
        post(id, TIME_SYNC).uint(option::BLOCK1, block.to_uint()).uint(option::BLOCK2, block2(0, 1)).payload(bytes)
    };
    assert_eq!(ask(&mut rig, &part(1, 0, one)).code(), Code::CONTINUE);
    let first = ask(&mut rig, &part(2, 1, two));
    assert_eq!((first.code(), first.uint(option::BLOCK1)), (Code::CONTENT, Some(1 << 4 | 1)));
    let expected = br#"{"messageId":"a request with a name of its own","timestamp":1700000000000}"#;
    assert_eq!(fetch(&mut rig, &first, TIME_SYNC), expected);
    rig.assert_empty();
}

#[test]
fn an_answer_that_fits_into_no_datagram_leaves_in_blocks_unasked() {
    let mut rig = Rig::new();
    rig.world.limits.packet_bytes = 10_000;
    let name = "x".repeat(5000);
    let first = ask(&mut rig, &time_sync(1, format!(r#"{{"messageId":"{name}"}}"#).as_bytes()));
    assert_eq!((first.payload().len(), first.uint(option::BLOCK2)), (1024, Some(8 | 6)));
    let body = fetch(&mut rig, &first, TIME_SYNC);
    assert_eq!(body, format!(r#"{{"messageId":"{name}","timestamp":{NOW_MS}}}"#).as_bytes());
}

#[test]
fn an_answer_that_is_short_enough_is_whole() {
    let mut rig = Rig::new();
    let answer = ask(&mut rig, &time_sync(1, b"{}").uint(option::BLOCK2, block2(0, 1)));
    assert_eq!((answer.payload(), answer.uint(option::BLOCK2)), (&br#"{"timestamp":1700000000000}"#[..], Some(1)));
    let answer = ask(&mut rig, &time_sync(2, b"{}"));
    assert_eq!((answer.payload().len(), answer.uint(option::BLOCK2)), (27, None));
    assert_eq!(rig.endpoint.held().downloads, 0);
}

#[test]
fn a_repetition_of_the_request_changes_nothing_in_the_answer_that_is_fetched() {
    let mut rig = Rig::dtls();
    let request = auth(1).uint(option::BLOCK2, block2(0, 1));
    let first = ask(&mut rig, &request);
    rig.pass_ms(5000);
    assert_eq!(ask(&mut rig, &request), first, "the token is another one");
    let body = fetch(&mut rig, &first, "/auth");
    rig.pass_ms(5000);
    let again = ask(&mut rig, &request);
    assert_ne!(fetch(&mut rig, &again, "/auth"), body, "it was fetched, and the device asks anew");
}

#[test]
fn blocks_that_nobody_holds_are_not_given() {
    let mut rig = Rig::dtls();
    let first = ask(&mut rig, &auth(1).uint(option::BLOCK2, block2(0, 0)));
    assert_eq!(first.payload().len(), 16);
    let second = |id: u16, path: &str| post(id, path).uint(option::BLOCK2, block2(1, 0));
    let incomplete = Code::REQUEST_ENTITY_INCOMPLETE;
    assert_eq!(ask(&mut rig, &second(2, "/product1/device1/request-token")).code(), incomplete);
    let other = MessageBuilder::new(Kind::Confirmable, Code::POST, 3, message_token(7)).path("/auth");
    let other = other.option(option::DEVICE_ID, b"device2").uint(option::BLOCK2, block2(1, 0));
    assert_eq!(ask(&mut rig, &other).code(), incomplete, "another device");
    let foreign = rig.feed_raw(peer(2), &second(4, "/auth").encode());
    assert_eq!(decode(&foreign[0].1).map(|answer| answer.code()), Ok(incomplete), "another peer");
    assert_eq!(ask(&mut rig, &post(5, "/auth").uint(option::BLOCK2, block2(3, 0))).code(), Code::BAD_REQUEST);
    assert_eq!(ask(&mut rig, &post(6, "/auth").uint(option::BLOCK2, 7)).code(), Code::BAD_REQUEST, "reserved size");
    let get = MessageBuilder::new(Kind::Confirmable, Code::GET, 7, message_token(7)).path("/auth");
    assert_eq!(ask(&mut rig, &get.uint(option::BLOCK2, block2(1, 0))).code(), Code::METHOD_NOT_ALLOWED);
    let report = post(8, "/product1/device1/properties/report").uint(option::BLOCK2, block2(1, 0)).payload(b"{}");
    assert_eq!(ask(&mut rig, &report).code(), incomplete);
    assert!(rig.world.uplink.published.is_empty());
    let sent = rig.feed(&non(second(9, "/auth").encode()));
    assert_eq!((only(&sent).kind(), only(&sent).code()), (Kind::NonConfirmable, Code::CONTENT));
    rig.pass_ms(93_000);
    assert_eq!(ask(&mut rig, &second(10, "/auth")).code(), incomplete, "too late");
    assert_eq!(rig.endpoint.held().download_bytes, 0);
}

#[test]
fn a_peer_that_is_gone_takes_its_answers_along() {
    let mut rig = Rig::dtls();
    let gone = PeerKey::Session(9);
    rig.feed_raw(gone, &auth(1).uint(option::BLOCK2, block2(0, 0)).encode());
    assert_eq!(rig.endpoint.held().downloads, 1);
    rig.act(|endpoint, ctx| endpoint.forget(gone, ctx));
    assert_eq!((rig.endpoint.held().downloads, rig.endpoint.held().download_bytes), (0, 0));
}
