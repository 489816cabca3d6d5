//! Seeds of CoAP and of what lies beyond the core.

use jetlinks_bridge::codec::coap::{Code, Kind, MessageBuilder, MessageToken, option};
use jetlinks_bridge::replica::claim::{Claim, ClaimSecrets};

use super::super::claim;
use super::Seed;

/// All of them.
pub fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    seeds.extend(coap());
    seeds.extend(dtls());
    seeds.extend(texts());
    seeds
}

fn post(kind: Kind, id: u16, path: &str) -> MessageBuilder {
    let token = MessageToken::new(&[7, 7]).expect("2 bytes are few");
    MessageBuilder::new(kind, Code::POST, id, token).path(path).option(option::DEVICE_ID, b"device1")
}

fn coap() -> Vec<Seed> {
    let report = |id| {
        let draft = post(Kind::Confirmable, id, "/product1/device1/properties/report");
        draft.payload(br#"{"properties":{"n":1}}"#).encode()
    };
    // The first block of two, and the second.
    let block = |id, value: u32, payload: &[u8]| {
        let draft = post(Kind::Confirmable, id, "/product1/device1/properties/report");
        draft.uint(option::BLOCK1, value).payload(payload).encode()
    };
    let auth = post(Kind::Confirmable, 9, "/auth").option(option::SIGNATURE, b"00").payload(br#"{"timestamp":"1"}"#);
    let non = post(Kind::NonConfirmable, 5, "/product1/device1/nosuch").encode();
    let datagrams = [
        ("report", report(1)),
        ("first-block", block(2, 0b1000, &[b'x'; 16])),
        ("last-block", block(3, 0b1_0000, b"}")),
        ("auth", auth.encode()),
        ("non", non),
        ("ping", vec![0x40, 0, 1, 2]),
    ];
    let mut seeds: Vec<Seed> =
        datagrams.iter().map(|(name, bytes)| ("coap_decode", (*name).to_owned(), bytes.clone())).collect();
    let with = |operation: u8, bytes: &[u8]| [&[operation, bytes.len() as u8], bytes].concat();
    for security in [0, 1] {
        // Datagrams as they are and as a device would encrypt them, looked up, stored, then all again.
        let mut sequence = vec![security];
        for (_, bytes) in &datagrams {
            sequence.extend(with(0, bytes));
            sequence.extend(with(4, bytes));
            sequence.extend([5, 0, 5, 0, 6, 0]);
        }
        seeds.push(("coap_operations", format!("stored-{security}"), sequence.clone()));
        for (_, bytes) in &datagrams {
            sequence.extend(with(64 + 4, bytes));
        }
        sequence.extend([5, 0, 7, 0, 8, 200, 10, 0, 9, 1, 5, 0, 8, 255, 9, 0, 10, 0, 11, 0]);
        seeds.push(("coap_operations", format!("lost-{security}"), sequence));
    }
    seeds
}

/// A ClientHello of DTLS 1.2 with one cipher suite, and no cookie.
fn hello() -> Vec<u8> {
    let mut body = vec![0xfe, 0xfd];
    body.extend([9; 32]);
    // No session, no cookie, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, no compression, groups and signatures.
    body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 16]);
    body.extend([0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3]);
    let length = (body.len() as u16).to_be_bytes();
    let message = [&[1, 0, length[0], length[1], 0, 0, 0, 0, 0, 0, length[0], length[1]][..], &body].concat();
    let record = (message.len() as u16).to_be_bytes();
    [&[22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, record[0], record[1]][..], &message].concat()
}

fn dtls() -> Vec<Seed> {
    let hello = hello();
    let with = |operation: u8, bytes: &[u8]| [&[operation, bytes.len() as u8], bytes].concat();
    // A fragment of a ClientKeyExchange that announces 100 KiB.
    let key_exchange = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 13, 16, 1, 0x90, 0, 0, 2, 0, 0, 0, 0, 0, 1, 7];
    let shaken = [with(0, &hello), with(192, &hello), with(0, &key_exchange), with(128, &[0; 50])].concat();
    vec![
        ("dtls_datagrams", "hello".to_owned(), with(0, &hello)),
        ("dtls_datagrams", "handshake".to_owned(), shaken),
        ("dtls_datagrams", "noise".to_owned(), with(1, b"\x17\xfe\xfd noise")),
    ]
}

fn texts() -> Vec<Seed> {
    const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    const TOML: &str = "[[device]]\nid='device1'\nproduct='product1'\nsecure_id='a'\nsecure_key='b'\n\
        [[product]]\nid='product1'\nsecure_id='c'\nsecure_key='d'\n";
    const DEVICE: &str = r#"{"id":"device1","product":"product1","secureId":"a","secureKey":"b","enabled":true}"#;
    const GATEWAY: &str = r#"{"id":"gw1","product":"product1","enabled":false,"gateway":null,"children":[{"id":"child1","product":"product2"}]}"#;
    const BEGUN: &str = "begun\ndevice1\n01J\nreplica1\n17\n18";
    let claim = Claim::decode(BEGUN.as_bytes(), None).expect("it is a claim");
    let signed = claim.encode(Some(&ClaimSecrets::new(claim::SECRET, None)));
    // 512 bytes, as many as a claim may have without its signature.
    let longest = BEGUN.replace("replica1", &"r".repeat(512 - BEGUN.len() + "replica1".len()));
    let put = REQUEST.replace("GET", "PUT");
    let with = |header: &str| REQUEST.replace("Host:", &format!("{header}\r\nHost:"));
    let (body, granted) = (with("Content-Length: 5"), with("Origin: https://devices.example"));
    let foreign = with("Origin: https://other.example");
    let texts: [(&'static str, &str, &str); 30] = [
        ("claim", "begun", BEGUN),
        ("claim", "signed", &signed),
        ("claim", "longest", &longest),
        ("claim", "asked", "asked\ndevice1\n01J\nreplica1\n17\n18\n02J\n5\n6"),
        ("claim", "time", "time\n\n\nreplica1\n17\n18"),
        ("nats_acknowledgement", "stored", r#"{"stream":"S","seq":17}"#),
        ("nats_acknowledgement", "domain", r#"{"stream":"S","domain":"hub","seq":17}"#),
        ("nats_acknowledgement", "list", r#"[null,"S",null,17]"#),
        ("nats_acknowledgement", "numberless", r#"{"stream":"S","seq":0}"#),
        ("nats_acknowledgement", "duplicate", r#"{"stream":"S","seq":7,"duplicate": true}"#),
        ("nats_acknowledgement", "foreign", r#"{"stream":"S2","seq":1}"#),
        (
            "nats_acknowledgement",
            "error",
            r#"{"error":{"code":503,"err_code":10054,"description":"too large"},"stream":"S","seq":0}"#,
        ),
        ("nats_operations", "handshake", "INFO {\"max_payload\":1048576,\"nonce\":\"a\"} \r\nPONG\r\n+OK\r\nPING\r\n"),
        ("nats_operations", "acknowledgement", "MSG _INBOX.a.0000 7 25\r\n{\"stream\":\"S\",\"seq\":1234}\r\nPING\r\n"),
        ("nats_operations", "reply", "MSG a 7 _INBOX.b 2\r\nok\r\nMSG a 8 0\r\n\r\n"),
        ("nats_operations", "status", "HMSG _INBOX.a.0000 7 16 16\r\nNATS/1.0 503\r\n\r\n\r\nPING\r\n"),
        ("nats_operations", "headers", "HMSG a 7 b 18 20\r\nNATS/1.0\r\na: b\r\n\r\nok\r\n"),
        ("nats_operations", "objection", "-ERR 'Permissions Violation for Publish to \"a\"'\r\nPING\r\n"),
        ("registry_record", "device", DEVICE),
        ("registry_record", "gateway", GATEWAY),
        ("registry_record", "product", r#"{"id":"product1","secureId":"a","secureKey":"b"}"#),
        ("registry_record", "toml", TOML),
        ("registry_record", "none", "device = []\n"),
        ("websocket_request", "good", REQUEST),
        ("websocket_request", "method", &put),
        ("websocket_request", "body", &body),
        ("websocket_request", "granted-origin", &granted),
        ("websocket_request", "foreign-origin", &foreign),
        ("websocket_request", "part", &REQUEST[..100]),
        ("websocket_request", "path", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ];
    texts.map(|(target, name, text)| (target, name.to_owned(), text.as_bytes().to_vec())).into()
}
