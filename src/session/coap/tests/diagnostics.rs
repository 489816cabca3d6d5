//! Diagnostic payloads: what they say, to whom, and how long they may be.

use super::super::fake::{KEY, NOW_MS, Rig, encrypted, message_token, only, post, report, secrets};
use super::super::sign_token_request;
use crate::codec::coap::{Block, Code, Kind, Message, MessageBuilder, option};
use crate::protocol::cipher;
use crate::protocol::uplink::{Availability, RecordRefusal};

const REPORT: &str = "/product1/device1/properties/report";

/// A request that is long enough for any text.
fn long(draft: MessageBuilder) -> MessageBuilder {
    // Elective, and of no meaning here.
    draft.option(option::URI_QUERY, &[b'x'; 200])
}

fn sealed(json: &str) -> Vec<u8> {
    cipher::encrypt(cipher::key(KEY).expect("16 bytes"), json.as_bytes())
}

/// The answer to a request, once what it wrote is stored.
fn answer(rig: &mut Rig, datagram: &[u8]) -> Message {
    let before = rig.world.uplink.published.len();
    let sent = rig.feed(datagram);
    if sent.is_empty() { only(&rig.receipt(before, true)).clone() } else { only(&sent).clone() }
}

fn told(message: &Message) -> (Code, String) {
    assert_eq!(message.uint(option::CONTENT_FORMAT), None, "a text for people has no format");
    (message.code(), String::from_utf8_lossy(message.payload()).into_owned())
}

#[test]
fn each_refusal_that_is_no_secret_says_why() {
    let mut rig = Rig::new();
    let block = |number, more, size_exponent| Block { number, more, size_exponent }.to_uint();
    let of = |id: u16, path: &str, body: &str| long(post(id, path)).payload(&sealed(body));
    let get = MessageBuilder::new(Kind::Confirmable, Code::GET, 20, message_token(7)).path(REPORT);
    let rows = [
        (of(1, REPORT, r#"{"properties":1}"#), Code::BAD_REQUEST, "properties"),
        (of(2, REPORT, ""), Code::BAD_REQUEST, "JSON"),
        (of(3, "/product1/device1/nosuch", "{}"), Code::NOT_FOUND, "devices send no message on this topic"),
        (of(4, "/product1/device2/tags", "{}"), Code::FORBIDDEN, "the path is not that of the device in option 2100"),
        (of(5, "/product1/device1/child/child2/log", "{}"), Code::FORBIDDEN, "the registry binds this child"),
        (of(6, REPORT, &format!("{{}}{}", " ".repeat(1024))), Code::REQUEST_ENTITY_TOO_LARGE, "at most 1024 bytes"),
        (long(get), Code::METHOD_NOT_ALLOWED, "the method is POST or PUT"),
        (of(8, REPORT, "{}").uint(option::CONTENT_FORMAT, 60), Code::UNSUPPORTED_CONTENT_FORMAT, "0, 42 or 50"),
        (
            of(9, "/product1/device1/time-sync", "{}").uint(option::ACCEPT, 60),
            Code::NOT_ACCEPTABLE,
            "the answer is JSON",
        ),
        (of(10, REPORT, "{}").option(option::TOKEN, b"x"), Code::BAD_OPTION, "option 2111 is for DTLS alone"),
        (of(11, REPORT, "{}").option(option::DEVICE_ID, b"device2"), Code::BAD_OPTION, "option 2100 is repeated"),
        (of(12, REPORT, "{}").option(2113, b"x"), Code::BAD_OPTION, "option 2113 is unknown"),
        (of(13, REPORT, "{}").option(option::ACCEPT, b"xxx"), Code::BAD_OPTION, "option 17 has a wrong length"),
        (of(14, REPORT, "{}").option(option::PROXY_URI, b"coap://x"), Code::PROXYING_NOT_SUPPORTED, "this is no proxy"),
        (of(15, REPORT, "{}").uint(option::BLOCK1, 7), Code::BAD_REQUEST, "Block1 has no such size"),
        (
            of(16, REPORT, "{}").uint(option::BLOCK1, block(3, false, 0)),
            Code::REQUEST_ENTITY_INCOMPLETE,
            "begin with block 0",
        ),
        (
            of(17, REPORT, "{}").uint(option::BLOCK2, block(3, false, 0)),
            Code::REQUEST_ENTITY_INCOMPLETE,
            "ask from block 0",
        ),
    ];
    for (draft, code, part) in rows {
        let (found, text) = told(&answer(&mut rig, &draft.encode()));
        assert_eq!(found, code, "{part}: {text}");
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_the_queue_refuses_and_what_passes_by_itself_says_why() {
    let mut rig = Rig::new();
    for (id, refusal, code, part) in [
        (
            1,
            RecordRefusal::TooLarge("secret of the queue".to_owned()),
            Code::REQUEST_ENTITY_TOO_LARGE,
            "than the queue takes",
        ),
        (2, RecordRefusal::Rule("secret of the queue".to_owned()), Code::BAD_REQUEST, "the queue refuses the message"),
    ] {
        assert!(rig.feed(&long(post(id, REPORT)).payload(&sealed("{}")).encode()).is_empty());
        let at = rig.world.uplink.published.len() - 1;
        assert!(rig.refuse(at, &refusal).is_empty(), "answered before the rejected envelope is stored");
        let (found, text) = told(only(&rig.receipt(at + 1, true)));
        assert_eq!(found, code, "{text}");
        assert!(text.contains(part) && !text.contains("secret"), "{text}");
    }
    assert!(rig.feed(&report(3)).is_empty());
    let at = rig.world.uplink.published.len() - 1;
    assert_eq!(told(only(&rig.receipt(at, false))), (Code::SERVICE_UNAVAILABLE, "the queue is away".to_owned()));
    rig.world.registry_away = true;
    let expected = (Code::SERVICE_UNAVAILABLE, "the registry is away".to_owned());
    assert_eq!(told(only(&rig.feed(&report(4)))), expected);
    rig.world.queue = Availability::Away;
    assert_eq!(told(only(&rig.feed(&report(5)))), (Code::SERVICE_UNAVAILABLE, "the queue is away".to_owned()));
    rig.endpoint.drain();
    let expected = (Code::SERVICE_UNAVAILABLE, "the bridge shuts down".to_owned());
    assert_eq!(told(only(&rig.feed(&report(6)))), expected);
}

#[test]
fn whoever_is_not_authenticated_is_told_the_same_whatever_was_wrong() {
    let wrong_key = cipher::encrypt(b"0123456789ABCDEF", b"{}");
    let named = |id: u16, device: &[u8], body: &[u8]| {
        let draft = MessageBuilder::new(Kind::Confirmable, Code::POST, id, message_token(7)).path(REPORT);
        draft.option(option::DEVICE_ID, device).payload(body)
    };
    let mut plain = Rig::new();
    let drafts = [
        named(1, b"stranger", &wrong_key),
        named(2, b"device1", &wrong_key),
        named(3, b"disabled1", &sealed("{}")),
        named(4, b"short1", &sealed("{}")),
        named(5, b"device1", br#"{"properties":{"temp":36.80}}"#),
        named(6, b"", &sealed("{}")),
    ];
    let expected = (Code::UNAUTHORIZED, "not authenticated".to_owned());
    for draft in drafts {
        assert_eq!(told(&answer(&mut plain, &draft.encode())), expected);
    }
    let mut secured = Rig::dtls();
    let stale = format!(r#"{{"timestamp":"{}"}}"#, NOW_MS / 1000);
    let signed = |key: &str| {
        let draft = post(8, "/auth").option(option::SIGNATURE, &sign_token_request(stale.as_bytes(), key));
        draft.payload(stale.as_bytes())
    };
    let expired = post(9, REPORT).option(option::TOKEN, &secrets().issue("device1", KEY, 1)).payload(b"{}");
    for draft in [signed(KEY), signed("other"), post(7, REPORT).payload(b"{}"), expired] {
        assert_eq!(told(&answer(&mut secured, &draft.encode())), expected);
    }
}

#[test]
fn a_text_makes_no_answer_longer_than_its_request_and_is_cut() {
    let mut rig = Rig::new();
    for bytes in 0..80 {
        let id = 100 + u16::try_from(bytes).expect("small");
        let draft = MessageBuilder::new(Kind::Confirmable, Code::GET, id, message_token(7));
        let request = draft.option(option::URI_QUERY, &b"x".repeat(bytes)).encode();
        let sent = rig.feed(&request);
        let (code, text) = told(only(&sent));
        assert_eq!(code, Code::METHOD_NOT_ALLOWED);
        assert!("the method is POST or PUT".starts_with(&text), "{text}");
        let header_bytes = 4 + 2;
        let answer_bytes = if text.is_empty() { header_bytes } else { header_bytes + 1 + text.len() };
        assert!(answer_bytes <= request.len(), "{answer_bytes} bytes for {}", request.len());
        assert_eq!(text.len() == 25, request.len() >= header_bytes + 1 + 25, "{text}");
    }
}

#[test]
fn an_answer_without_a_mistake_has_no_text() {
    let mut rig = Rig::new();
    assert_eq!(told(&answer(&mut rig, &encrypted(1, "properties/report", "{}"))), (Code::CREATED, String::new()));
}
