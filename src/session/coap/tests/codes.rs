//! The table of answers, row by row.

use std::collections::BTreeMap;

use super::super::fake::{KEY, NOW_MS, Rig, encrypted, key, message_token, non, only, post, report, secrets};
use super::super::{Refusal, Security, Settings, TokenError, sign_token_request};
use crate::codec::coap::{Block, Code, Kind, Message, MessageBuilder, option};
use crate::protocol::cipher;
use crate::protocol::random::Random;
use crate::protocol::uplink::{Availability, Channel};

const REPORT: &str = "/product1/device1/properties/report";
const BODY: &[u8] = br#"{"properties":{"n":1}}"#;

fn sealed(json: &[u8]) -> Vec<u8> {
    cipher::encrypt(cipher::key(KEY).expect("16 bytes"), json)
}

/// Feeds one request and stores what it wrote; its answer and whether something was written.
fn answer(rig: &mut Rig, datagram: &[u8]) -> (Message, Option<Channel>) {
    let before = rig.world.uplink.published.len();
    let mut sent = rig.feed(datagram);
    let written = rig.world.uplink.published.get(before).map(|(_, record)| record.channel);
    if written.is_some() {
        assert!(sent.is_empty(), "answered before the queue had it: {sent:?}");
        sent = rig.receipt(before, true);
    }
    let message = only(&sent).clone();
    assert_eq!(message.kind(), Kind::Acknowledgement);
    rig.assert_empty();
    (message, written)
}

fn expect(rig: &mut Rig, what: &str, draft: &MessageBuilder, code: Code, written: Option<Channel>) -> Message {
    let (message, was_written) = answer(rig, &draft.encode());
    assert_eq!((message.code(), was_written), (code, written), "{what}");
    assert_eq!(message.token(), message_token(7), "{what}");
    message
}

fn token(device: &str) -> [u8; 32] {
    secrets().issue(device, KEY, NOW_MS / 1000 + 60)
}

#[test]
fn a_message_that_the_queue_has_is_created_without_a_session() {
    let mut rig = Rig::new();
    let draft = post(1, REPORT).payload(&sealed(BODY));
    let message = expect(&mut rig, "report", &draft, Code::CREATED, Some(Channel::Device));
    assert_eq!((message.payload(), message.options().count()), (&b""[..], 0));
    let envelope = &rig.envelopes()[0];
    assert_eq!(envelope["type"], "org.jetlinks.device.properties.report");
    assert_eq!(envelope["deviceid"], "device1");
    assert_eq!(envelope["data"]["properties"]["n"], 1);
    assert!(envelope.get("sessionid").is_none());
}

#[test]
fn a_body_may_begin_with_a_byte_order_mark_and_white_space() {
    let mut rig = Rig::new();
    for (id, front) in (1..).zip(["\u{feff}", "\u{feff} \r\n\t", " \r\n\t"]) {
        let body = [front.as_bytes(), BODY].concat();
        expect(&mut rig, front, &post(id, REPORT).payload(&sealed(&body)), Code::CREATED, Some(Channel::Device));
    }
}

#[test]
fn put_and_the_listed_formats_are_as_good_as_post() {
    let mut rig = Rig::new();
    let put = MessageBuilder::new(Kind::Confirmable, Code::PUT, 1, message_token(7)).path(REPORT);
    let put = put.option(option::DEVICE_ID, b"device1").payload(&sealed(BODY));
    expect(&mut rig, "PUT", &put, Code::CREATED, Some(Channel::Device));
    for (id, format) in (2..).zip([0, 42, 50]) {
        let draft = post(id, REPORT).uint(option::CONTENT_FORMAT, format).payload(&sealed(BODY));
        expect(&mut rig, "format", &draft, Code::CREATED, Some(Channel::Device));
    }
    let draft = post(9, REPORT).uint(option::CONTENT_FORMAT, 60).payload(&sealed(BODY));
    expect(&mut rig, "CBOR", &draft, Code::UNSUPPORTED_CONTENT_FORMAT, None);
}

#[test]
fn the_time_is_told_in_the_answer() {
    let mut rig = Rig::new();
    let draft = post(1, "/product1/device1/time-sync").payload(&sealed(br#"{"messageId":"m1"}"#));
    let message = expect(&mut rig, "time-sync", &draft, Code::CONTENT, None);
    assert_eq!(message.payload(), br#"{"messageId":"m1","timestamp":1700000000000}"#);
    assert_eq!(message.uint(option::CONTENT_FORMAT), Some(50));
    let draft = post(2, "/product1/device1/time-sync").uint(option::ACCEPT, 60).payload(&sealed(b"{}"));
    expect(&mut rig, "CBOR wanted", &draft, Code::NOT_ACCEPTABLE, None);
}

#[test]
fn what_is_authentic_and_no_message_is_written_as_rejected() {
    let mut rig = Rig::new();
    let large = [&b"{}"[..], &[b' '; 1023]].concat();
    let rows: &[(&str, &[u8], Code, &str)] = &[
        (REPORT, br#"{"properties":1}"#, Code::BAD_REQUEST, "undecodable"),
        (REPORT, b"", Code::BAD_REQUEST, "undecodable"),
        ("/product1/device1/time-sync", br#"{"messageId":{}}"#, Code::BAD_REQUEST, "undecodable"),
        ("/product1/device1/nosuch", BODY, Code::NOT_FOUND, "unknown_topic"),
        ("/product1/device1/properties/read", BODY, Code::NOT_FOUND, "unknown_topic"),
        (REPORT, &large, Code::REQUEST_ENTITY_TOO_LARGE, "too_large"),
        ("/product1/device1/child/child2/log", BODY, Code::FORBIDDEN, "foreign_child"),
    ];
    for (index, (path, body, code, reason)) in rows.iter().enumerate() {
        let draft = post(u16::try_from(index).expect("few"), path).payload(&sealed(body));
        let message = expect(&mut rig, reason, &draft, *code, Some(Channel::Rejected));
        let data = &rig.envelopes()[index]["data"];
        assert_eq!((data["reason"].as_str(), data["topic"].as_str()), (Some(*reason), Some(*path)));
        let too_large = *code == Code::REQUEST_ENTITY_TOO_LARGE;
        assert_eq!(data.get("payload_base64").is_none(), too_large);
        assert_eq!(message.uint(option::SIZE1), too_large.then_some(1024));
    }
    let long = format!("/product1/device1/event/{}/{}", "x".repeat(250), "y".repeat(250));
    let draft = post(100, &long).payload(&sealed(BODY));
    expect(&mut rig, "topic", &draft, Code::REQUEST_ENTITY_TOO_LARGE, Some(Channel::Rejected));
}

#[test]
fn whoever_cannot_encrypt_gets_the_same_answer() {
    let mut rig = Rig::new();
    let named = |id: u16, device: &[u8], body: &[u8]| {
        MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(7))
            .path(REPORT)
            .option(option::DEVICE_ID, device)
            .payload(body)
    };
    let nameless =
        MessageBuilder::new(Kind::Confirmable, Code::POST, 1, message_token(7)).path(REPORT).payload(&sealed(BODY));
    let other_key = cipher::encrypt(b"0123456789ABCDEF", BODY);
    let rows = [
        (nameless, Refusal::Nameless),
        (named(2, b"\xff", &sealed(BODY)), Refusal::Nameless),
        (named(3, b"", &sealed(BODY)), Refusal::Nameless),
        (named(4, &[b'x'; 65], &sealed(BODY)), Refusal::Nameless),
        (named(5, b"stranger", &sealed(BODY)), Refusal::Unknown),
        (named(6, b"disabled1", &sealed(BODY)), Refusal::Disabled),
        (named(7, b"short1", &sealed(BODY)), Refusal::KeyLength),
        (named(8, b"keyless1", &sealed(BODY)), Refusal::KeyLength),
        (named(9, b"device1", &other_key), Refusal::Undecryptable),
        (named(10, b"device1", BODY), Refusal::Undecryptable),
        (named(11, b"device1", b""), Refusal::Undecryptable),
    ];
    for (draft, refusal) in rows {
        rig.forget_events();
        let message = expect(&mut rig, refusal.sentence(), &draft, Code::UNAUTHORIZED, None);
        let is_constant = b"not authenticated".starts_with(message.payload());
        assert!(is_constant && message.options().count() == 0, "the answer tells more: {message:?}");
        assert!(rig.told(&format!("refusal: {refusal:?},")), "{refusal:?}");
    }
}

/// Paths of every kind, with the device's own ids and others.
const PATHS: [&str; 10] = [
    REPORT,
    "/product1/device1/event/alarm",
    "/product1/device1/register",
    "/product1/device1/time-sync",
    "/product1/device1/child/child1/log",
    "/product1/device1/child/child2/log",
    "/product1/device1/nosuch",
    "/product1/device2/log",
    "/product2/device1/log",
    "/auth",
];

#[test]
fn a_body_that_decrypts_to_no_json_object_is_answered_like_one_of_an_unknown_device() {
    let mut rig = Rig::new();
    // What noise decrypts to when its padding is right by chance, and what comes near to a message.
    for body in [&b"not json"[..], b"[]", b"{", b"{}}", b"\xff", br#""text""#, b"1", &[b' '; 1025]] {
        for (id, path) in (1..).zip(PATHS) {
            rig.forget_events();
            let message = expect(&mut rig, path, &post(id, path).payload(&sealed(body)), Code::UNAUTHORIZED, None);
            let is_constant = b"not authenticated".starts_with(message.payload());
            assert!(is_constant && message.options().count() == 0, "the answer tells more: {message:?}");
            assert!(rig.told("refusal: Unproven,"), "{path} {}", body.escape_ascii());
        }
    }
}

#[test]
fn of_thousands_of_bodies_without_a_key_none_is_written_and_no_answer_tells_of_a_device() {
    let mut noise = Random::new(7);
    for device in ["device1", "stranger", "keyless1"] {
        let mut rig = Rig::new();
        let mut answers = BTreeMap::<(&str, u8), usize>::new();
        for (number, path) in PATHS.into_iter().cycle().take(5_120).enumerate() {
            let body: Vec<u8> = (0..2).flat_map(|_| noise.draw().to_be_bytes()).collect();
            let id = u16::try_from(number).expect("few");
            let draft = MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(7)).path(path);
            let sent = rig.feed(&draft.option(option::DEVICE_ID, device.as_bytes()).payload(&body).encode());
            *answers.entry((path, only(&sent).code().to_byte())).or_default() += 1;
        }
        assert!(answers.keys().all(|(_, code)| *code == Code::UNAUTHORIZED.to_byte()), "{device} {answers:?}");
        assert_eq!(rig.world.uplink.published.len(), 0);
        assert_eq!(rig.told("refusal: Unproven,"), device == "device1", "{device}: no padding was right by chance");
    }
}

#[test]
fn direct_is_not_taken_whatever_the_device_unless_it_is_switched_on() {
    let paths = ["direct", "direct/", "child/c1/direct", "child/c1/child/c2/direct", "child-reply/c1/direct"];
    let mut rig = Rig::new();
    for device in ["device1", "stranger", "disabled1", "keyless1"] {
        for (id, path) in (1..).zip(paths) {
            let path = format!("/product1/{device}/{path}");
            let draft = MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(7)).path(&path);
            let draft = draft.option(option::DEVICE_ID, device.as_bytes()).payload(&sealed(b"raw"));
            let message = expect(&mut rig, &path, &draft, Code::METHOD_NOT_ALLOWED, None);
            assert_eq!((message.payload(), message.options().count()), (&b"direct is off"[..], 0));
            assert!(message.payload().len() < draft.encode().len() - draft.clone().payload(b"").encode().len());
        }
    }
    assert!(rig.parked.is_empty());
    let mut rig = Rig::with(Settings { takes_direct: true, ..Settings::new(3, Security::Aes, key()) });
    for (id, path) in (1..).zip(paths) {
        let draft = post(id, &format!("/product1/device1/{path}")).payload(&sealed(b"raw"));
        expect(&mut rig, path, &draft, Code::CREATED, Some(Channel::Device));
    }
    // Of the other types it lets no more through.
    let draft = post(9, REPORT).payload(&sealed(b"raw"));
    expect(&mut rig, REPORT, &draft, Code::UNAUTHORIZED, None);
    let mut rig = Rig::dtls();
    let draft = post(1, "/product1/device1/direct").option(option::TOKEN, &token("device1")).payload(b"raw");
    expect(&mut rig, "DTLS", &draft, Code::CREATED, Some(Channel::Device));
}

#[test]
fn a_critical_option_that_is_not_understood_is_refused_and_a_non_reset() {
    let mut rig = Rig::new();
    let good = |id: u16| post(id, REPORT).payload(&sealed(BODY));
    let rows = [
        ("token without DTLS", good(1).option(option::TOKEN, &token("device1"))),
        ("If-Match", good(2).option(1, b"x")),
        ("Proxy-Uri twice", good(3).option(option::PROXY_URI, b"coap://a").option(option::PROXY_URI, b"coap://b")),
        ("unknown", good(4).option(65_001, b"")),
        ("second Block1", good(5).uint(option::BLOCK1, 6).uint(option::BLOCK1, 6)),
        ("long Block1", good(6).option(option::BLOCK1, &[0; 4])),
        ("second Block2", good(7).uint(option::BLOCK2, 6).uint(option::BLOCK2, 6)),
        ("long Block2", good(15).option(option::BLOCK2, &[0; 4])),
        ("long segment", good(8).option(option::URI_PATH, &[b'x'; 256])),
        ("no text", good(9).option(option::URI_PATH, b"\xff")),
        ("device named twice", good(10).option(option::DEVICE_ID, b"device1")),
        ("two devices", good(11).option(option::DEVICE_ID, b"device2")),
        ("two signatures", good(12).option(option::SIGNATURE, b"x").option(option::SIGNATURE, b"x")),
        ("proxy and unknown", good(13).option(option::PROXY_SCHEME, b"coap").option(65_001, b"")),
        ("empty Proxy-Scheme", good(14).option(option::PROXY_SCHEME, b"")),
    ];
    for (what, draft) in rows {
        expect(&mut rig, what, &draft, Code::BAD_OPTION, None);
        let sent = rig.feed(&non(draft.encode()));
        if what != "no text" {
            assert_eq!((only(&sent).kind(), only(&sent).code()), (Kind::Reset, Code::EMPTY), "{what}");
        }
    }
    let harmless = good(20)
        .option(option::URI_HOST, b"bridge")
        .uint(option::URI_PORT, 5683)
        .option(option::URI_QUERY, b"a=b")
        .uint(option::BLOCK2, 6)
        .option(option::SIGNATURE, b"x")
        .option(option::REQUEST_TAG, b"y")
        .option(65_000, b"z");
    expect(&mut rig, "harmless", &harmless, Code::CREATED, Some(Channel::Device));
}

#[test]
fn over_dtls_a_token_or_a_signature_is_given_once() {
    let mut rig = Rig::dtls();
    let good = token("device1");
    let twice = post(1, REPORT).option(option::TOKEN, &good).option(option::TOKEN, &good).payload(BODY);
    expect(&mut rig, "two tokens", &twice, Code::BAD_OPTION, None);
    let payload = format!(r#"{{"timestamp":"{NOW_MS}"}}"#);
    let signature = sign_token_request(payload.as_bytes(), KEY);
    let twice = post(2, "/auth").option(option::SIGNATURE, &signature).option(option::SIGNATURE, b"x");
    expect(&mut rig, "two signatures", &twice.payload(payload.as_bytes()), Code::BAD_OPTION, None);
}

#[test]
fn whoever_asks_for_a_proxy_finds_none() {
    let mut rig = Rig::new();
    let options = [(option::PROXY_URI, &b"coap://example/log"[..]), (option::PROXY_SCHEME, b"coap")];
    for (id, (number, value)) in (1..).zip(options) {
        let draft = post(id, REPORT).option(number, value).payload(&sealed(BODY));
        expect(&mut rig, "proxy", &draft, Code::PROXYING_NOT_SUPPORTED, None);
        let sent = rig.feed(&non(draft.encode()));
        assert_eq!((only(&sent).kind(), only(&sent).code()), (Kind::NonConfirmable, Code::PROXYING_NOT_SUPPORTED));
        let get = MessageBuilder::new(Kind::Confirmable, Code::GET, id + 100, message_token(7)).option(number, value);
        expect(&mut rig, "GET by proxy", &get, Code::PROXYING_NOT_SUPPORTED, None);
    }
}

#[test]
fn a_segment_of_the_path_is_one_level_whatever_is_in_it() {
    let mut rig = Rig::new();
    let at = |id: u16, segments: &[&str]| {
        let named = MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(7))
            .option(option::DEVICE_ID, b"device1");
        let named = segments.iter().fold(named, |draft, one| draft.option(option::URI_PATH, one.as_bytes()));
        named.payload(&sealed(BODY))
    };
    let rows: [(&[&str], Code, Option<&str>); 7] = [
        (&["product1", "device1", "properties/report"], Code::NOT_FOUND, Some("/product1/device1/properties%2Freport")),
        (&["product1", "device1", "event", "a/b"], Code::NOT_FOUND, Some("/product1/device1/event/a%2Fb")),
        (&["product1", "device1", "child", "a/b", "log"], Code::NOT_FOUND, Some("/product1/device1/child/a%2Fb/log")),
        (&["product1", "device1", "log/"], Code::NOT_FOUND, Some("/product1/device1/log%2F")),
        (&["product1/device1/properties/report"], Code::FORBIDDEN, None),
        (&["/product1/device1/properties/report"], Code::FORBIDDEN, None),
        (&["product1", "device1/log"], Code::FORBIDDEN, None),
    ];
    for (id, (segments, code, topic)) in (1..).zip(rows) {
        let written = topic.map(|_| Channel::Rejected);
        expect(&mut rig, &segments.join(" | "), &at(id, segments), code, written);
        if let Some(topic) = topic {
            let data = &rig.envelopes().pop().expect("it was written")["data"];
            assert_eq!((data["reason"].as_str(), data["topic"].as_str()), (Some("unknown_topic"), Some(topic)));
        }
    }
    let escaped = at(20, &["product1", "device1", "event", "a%2Fb"]);
    expect(&mut rig, "no slash", &escaped, Code::CREATED, Some(Channel::Device));
}

#[test]
fn a_path_of_another_product_or_device_is_forbidden_once_the_device_is_known() {
    let mut rig = Rig::new();
    let foreign = ["/product2/device1/log", "/product1/device2/log", "/product1", "/", "/auth"];
    for (id, path) in (1..).zip(foreign) {
        rig.forget_events();
        expect(&mut rig, path, &post(id, path).payload(&sealed(b"{}")), Code::FORBIDDEN, None);
        assert!(rig.told("device1 Message(Foreign"), "{path}");
        expect(&mut rig, path, &post(id + 100, path).payload(b"plain"), Code::UNAUTHORIZED, None);
    }
}

#[test]
fn other_methods_are_not_allowed() {
    let mut rig = Rig::new();
    for (id, code) in (1..).zip([Code::GET, Code::new(0, 4), Code::new(0, 5), Code::new(0, 31)]) {
        let draft = MessageBuilder::new(Kind::Confirmable, code, id, message_token(7)).path("/.well-known/core");
        expect(&mut rig, "method", &draft, Code::METHOD_NOT_ALLOWED, None);
    }
}

#[test]
fn blocks_become_one_message_or_are_told_what_is_missing() {
    let mut rig = Rig::new();
    let body = sealed(&[br#"{"properties":{"text":""#, &[b'x'; 500][..], br#""}}"#].concat());
    let block = |id: u16, number: u32| {
        let start = number as usize * 64;
        let end = body.len().min(start + 64);
        let block = Block { number, more: end < body.len(), size_exponent: 2 };
        post(id, REPORT).uint(option::BLOCK1, block.to_uint()).payload(&body[start..end])
    };
    let last = u32::try_from(body.len().div_ceil(64)).expect("few") - 1;
    let sent = rig.feed(&block(1, 1).encode());
    assert_eq!(only(&sent).code(), Code::REQUEST_ENTITY_INCOMPLETE);
    for number in 0..last {
        let sent = rig.feed(&block(10 + number as u16, number).encode());
        assert_eq!(only(&sent).code(), Code::CONTINUE);
        assert_eq!(only(&sent).uint(option::BLOCK1), Some(number << 4 | 8 | 2));
    }
    assert!(rig.world.load.held_bytes > 0, "half a body is held and not counted");
    let message = expect(&mut rig, "last", &block(50, last), Code::CREATED, Some(Channel::Device));
    assert_eq!(message.uint(option::BLOCK1), Some(last << 4 | 2));
    assert_eq!(rig.envelopes()[0]["data"]["properties"]["text"].as_str().map(str::len), Some(500));
    let reserved = post(51, REPORT).uint(option::BLOCK1, 7).payload(b"x");
    expect(&mut rig, "reserved size", &reserved, Code::BAD_REQUEST, None);
}

#[test]
fn a_body_over_the_limit_is_refused_after_reassembly() {
    let mut rig = Rig::new();
    let block = |number: u32| {
        let block = Block { number, more: true, size_exponent: 6 };
        post(number as u16, REPORT).uint(option::BLOCK1, block.to_uint()).payload(&[7; 1024])
    };
    assert_eq!(only(&rig.feed(&block(0).encode())).code(), Code::CONTINUE);
    let message = expect(&mut rig, "second block", &block(1), Code::REQUEST_ENTITY_TOO_LARGE, None);
    assert_eq!((message.uint(option::SIZE1), message.uint(option::BLOCK1)), (Some(1024), None));
    let first = Block { number: 0, more: true, size_exponent: 6 }.to_uint();
    let announced = post(3, REPORT).uint(option::BLOCK1, first).uint(option::SIZE1, 2000).payload(&[7; 1024]);
    expect(&mut rig, "announced", &announced, Code::REQUEST_ENTITY_TOO_LARGE, None);
    let fits = sealed(&[&br#"{"properties":1}"#[..], &[b' '; 1008]].concat());
    let draft = post(9, REPORT).payload(&fits);
    expect(&mut rig, "largest", &draft, Code::BAD_REQUEST, Some(Channel::Rejected));
}

#[test]
fn without_the_queue_the_device_is_told_when_to_come_again() {
    let unavailable = |message: &Message| {
        assert_eq!(message.code(), Code::SERVICE_UNAVAILABLE);
        assert_eq!(message.uint(option::MAX_AGE), Some(5));
    };
    let mut rig = Rig::new();
    rig.world.queue = Availability::Away;
    unavailable(only(&rig.feed(&report(1))));
    rig.world.queue = Availability::Ok;
    rig.world.uplink.refuses = true;
    unavailable(only(&rig.feed(&report(2))));
    rig.world.uplink.refuses = false;
    rig.feed(&report(3));
    unavailable(only(&rig.receipt(0, false)));
    rig.world.registry_away = true;
    unavailable(only(&rig.feed(&report(4))));
    rig.world.registry_away = false;
    rig.world.load.held_bytes = rig.world.limits.inflight_bytes;
    unavailable(only(&rig.feed(&report(5))));
    rig.world.load.held_bytes = 0;
    rig.endpoint.drain();
    unavailable(only(&rig.feed(&report(6))));
    assert_eq!(rig.world.uplink.published.len(), 1);
    rig.assert_empty();
}

#[test]
fn a_token_is_given_for_a_signature_and_opens_the_door() {
    let mut rig = Rig::dtls();
    let payload = format!(r#"{{"timestamp":"{NOW_MS}"}}"#);
    let request = |id: u16, path: &str| {
        let signature = sign_token_request(payload.as_bytes(), KEY);
        post(id, path).option(option::SIGNATURE, &signature).payload(payload.as_bytes())
    };
    let mut given = Vec::new();
    for (id, path) in (1..).zip(["/auth", "/auth/", "/product1/device1/request-token"]) {
        let message = expect(&mut rig, path, &request(id, path), Code::CONTENT, None);
        let json: serde_json::Value = serde_json::from_slice(message.payload()).expect("JSON");
        given = json["token"].as_str().expect("a token").as_bytes().to_vec();
        assert_eq!(given.len(), 32);
        assert!(rig.told("device1 TokenIssued"));
    }
    let draft = post(10, REPORT).option(option::TOKEN, &given).payload(BODY);
    let message = expect(&mut rig, "report", &draft, Code::CREATED, Some(Channel::Device));
    assert_eq!(message.options().count(), 0, "the token was echoed");
    let draft = post(11, "/product1/device1/time-sync").option(option::TOKEN, &given).payload(b"{}");
    expect(&mut rig, "time-sync", &draft, Code::CONTENT, None);
    let elsewhere = request(12, "/product1/device2/request-token");
    expect(&mut rig, "other path", &elsewhere, Code::FORBIDDEN, None);
}

#[test]
fn whoever_cannot_sign_gets_no_token() {
    let mut rig = Rig::dtls();
    let auth = |id: u16, device: &str, payload: &str, key: &str| {
        MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(7))
            .path("/auth")
            .option(option::DEVICE_ID, device.as_bytes())
            .option(option::SIGNATURE, &sign_token_request(payload.as_bytes(), key))
            .payload(payload.as_bytes())
    };
    let fresh = format!(r#"{{"timestamp":"{NOW_MS}"}}"#);
    let stale = format!(r#"{{"timestamp":"{}"}}"#, NOW_MS - 300_001);
    let rows = [
        (auth(1, "stranger", &fresh, KEY), Refusal::Unknown),
        (auth(2, "disabled1", &fresh, KEY), Refusal::Disabled),
        (auth(3, "keyless1", &fresh, ""), Refusal::Signature),
        (auth(4, "device1", &fresh, "0123456789ABCDEF"), Refusal::Signature),
        (post(5, "/auth").payload(fresh.as_bytes()), Refusal::Signature),
        (auth(6, "device1", &stale, KEY), Refusal::Stale),
        (auth(7, "device1", "{}", KEY), Refusal::Stale),
    ];
    for (draft, refusal) in rows {
        rig.forget_events();
        expect(&mut rig, refusal.sentence(), &draft, Code::UNAUTHORIZED, None);
        assert!(rig.told(&format!("refusal: {refusal:?},")), "{refusal:?}");
    }
    assert!(!rig.told("TokenIssued"));
    let unreadable = auth(8, "device1", "now", KEY);
    expect(&mut rig, "unreadable", &unreadable, Code::BAD_REQUEST, Some(Channel::Rejected));
}

#[test]
fn each_wrong_token_is_refused() {
    let mut rig = Rig::dtls();
    let rows: [(Option<&[u8]>, Refusal); 5] = [
        (None, Refusal::TokenMissing),
        (Some(b"x"), Refusal::Token(TokenError::Form)),
        (Some(&token("device2")), Refusal::Token(TokenError::Wrong)),
        (Some(&secrets().issue("device1", "0123456789ABCDEF", u64::MAX)), Refusal::Token(TokenError::Wrong)),
        (Some(&secrets().issue("device1", KEY, NOW_MS / 1000)), Refusal::Token(TokenError::Expired)),
    ];
    for (id, (given, refusal)) in (1..).zip(rows) {
        rig.forget_events();
        let draft = post(id, REPORT).payload(BODY);
        let draft = given.map_or(draft.clone(), |given| draft.option(option::TOKEN, given));
        expect(&mut rig, refusal.sentence(), &draft, Code::UNAUTHORIZED, None);
        assert!(rig.told(&format!("refusal: {refusal:?},")), "{refusal:?}");
        assert!(!rig.told("TokenAccepted"), "{refusal:?}");
    }
    let draft = post(20, REPORT).option(option::TOKEN, &token("device1")).payload(BODY);
    expect(&mut rig, "good", &draft, Code::CREATED, Some(Channel::Device));
    assert!(rig.told("TokenAccepted"));
}

#[test]
fn over_dtls_a_body_too_large_to_wait_for_is_rejected_in_good_order() {
    let mut rig = Rig::dtls();
    let first = Block { number: 0, more: true, size_exponent: 6 };
    let draft = |id: u16| {
        post(id, REPORT).uint(option::BLOCK1, first.to_uint()).uint(option::SIZE1, 5000).payload(&[b' '; 1024])
    };
    let with_token = draft(1).option(option::TOKEN, &token("device1"));
    expect(&mut rig, "with a token", &with_token, Code::REQUEST_ENTITY_TOO_LARGE, Some(Channel::Rejected));
    expect(&mut rig, "without a token", &draft(2), Code::UNAUTHORIZED, None);
    let auth = post(3, "/auth").uint(option::SIZE1, 5000).uint(option::BLOCK1, first.to_uint()).payload(&[b' '; 1024]);
    expect(&mut rig, "auth", &auth, Code::REQUEST_ENTITY_TOO_LARGE, None);
}

#[test]
fn a_body_older_than_is_taken_is_refused_like_a_wrong_key() {
    let settings = Settings { max_age_ms: Some(60_000), ..Settings::new(3, Security::Aes, key()) };
    let mut rig = Rig::with(settings);
    let at = |ms: u64| format!(r#"{{"timestamp":{ms},"properties":{{}}}}"#);
    let (message, written) = answer(&mut rig, &encrypted(1, "properties/report", &at(NOW_MS - 60_001)));
    assert_eq!((message.code(), written), (Code::UNAUTHORIZED, None));
    for (id, body) in (2..).zip([at(NOW_MS - 60_000), "{}".to_owned()]) {
        let (message, _) = answer(&mut rig, &encrypted(id, "properties/report", &body));
        assert_eq!(message.code(), Code::CREATED, "{body}");
    }
}

#[test]
fn the_registry_decides_the_product_of_a_bound_child() {
    let mut rig = Rig::new();
    for (id, child) in (1..).zip(["child1", "stranger"]) {
        answer(&mut rig, &encrypted(id, &format!("child/{child}/properties/report"), "{}"));
    }
    let products: Vec<_> = rig.envelopes().iter().map(|envelope| envelope["productid"].clone()).collect();
    assert_eq!(products, ["product2", "product1"]);
}
