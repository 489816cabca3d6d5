//! Records behind the handshake, which OpenSSL makes on the side of the client and the bridge itself on its own.

use super::super::ffi;
use super::*;

/// Suites whose encryption differs.
const SUITES: [&str; 7] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-CCM",
    "ECDHE-ECDSA-AES256-CCM",
    "ECDHE-ECDSA-AES128-CCM8",
    "ECDHE-ECDSA-AES256-CCM8",
];

#[test]
fn every_suite_carries_messages_both_ways_and_the_end() {
    for suite in SUITES {
        let mut rig = Rig::new();
        let mut client = Client::with(address(1), |context| context.set_cipher_list(suite).unwrap());
        rig.shake(&mut client);
        assert_eq!(client.stream.ssl().current_cipher().map(|cipher| cipher.name()), Some(suite));
        for text in [&b"q"[..], b"a question", &[7; 1_000], &[7; 16_000]] {
            let peer = rig.say(&mut client, text).unwrap_or_else(|| panic!("{suite}: {} bytes", text.len()));
            let answer = &text[..text.len().min(2_000)];
            rig.answer(peer, &mut client, answer);
            assert_eq!(client.decrypt(), answer, "{suite}");
        }
        let genuine = client.encrypt(b"genuine");
        for at in 0..genuine.len() {
            let mut changed = genuine.clone();
            changed[at] ^= 1;
            assert_eq!(rig.hear(client.address, &changed, b"genuine"), None, "{suite}, byte {at}");
        }
        assert!(rig.hear(client.address, &genuine, b"genuine").is_some(), "{suite}");
        rig.sessions.close();
        client.stream.get_mut().incoming.extend(rig.sessions.sent().iter().map(|(_, datagram)| datagram.to_vec()));
        let error = client.stream.ssl_read(&mut [0; 16]).unwrap_err();
        assert_eq!(error.code(), openssl::ssl::ErrorCode::ZERO_RETURN, "{suite}");
    }
}

#[test]
fn records_count_once_in_whatever_order_they_come() {
    let mut rig = Rig::new();
    let mut client = Client::new(1);
    rig.shake(&mut client);
    let records = [&b"one"[..], b"two", b"three"].map(|text| (client.encrypt(text), text));
    for place in [2, 0, 1] {
        let (record, text) = &records[place];
        assert!(rig.hear(client.address, record, text).is_some(), "{place}");
    }
    for (record, text) in &records {
        assert_eq!(rig.hear(client.address, record, text), None);
    }
    // Two of them in one datagram.
    let both = [client.encrypt(b"four"), client.encrypt(b"five")].concat();
    rig.feed(client.address, &both);
    let heard: Vec<Vec<u8>> = rig.sessions.received().iter().map(|(_, text)| text.to_vec()).collect();
    assert_eq!(heard, [b"four", b"five"]);
}

#[test]
fn the_end_of_a_handshake_is_told_again_and_no_number_of_a_record_comes_twice() {
    let mut rig = Rig::new();
    let (mut client, flight) = rig.nearly_open(1);
    for datagram in flight {
        rig.feed(client.address, &datagram);
    }
    // What the server said is lost. The timer of OpenSSL runs on the clock of the system.
    let again = loop {
        assert!(ffi::on_timeout(&mut client.stream));
        let again = client.shake();
        if !again.is_empty() {
            break again;
        }
    };
    for datagram in &again {
        let answers = rig.feed(client.address, datagram);
        client.stream.get_mut().incoming.extend(answers);
    }
    assert!(client.stream.do_handshake().is_ok(), "the end was not told again");
    let peer = rig.say(&mut client, b"question").expect("it was heard");
    for answer in [b"answer 1", b"answer 2"] {
        rig.answer(peer, &mut client, answer);
        assert_eq!(client.decrypt(), answer, "its number came before");
    }
    // Late copies of the flight mean nothing any more.
    for datagram in &again {
        assert!(rig.feed(client.address, datagram).is_empty());
    }
    assert!(rig.say(&mut client, b"more").is_some());
}

#[test]
fn a_session_whose_peer_begins_another_handshake_in_parts_before_it_has_said_anything_is_ended() {
    let mut rig = Rig::new();
    let mut client = Client::new(1);
    rig.shake(&mut client);
    assert!(ffi::renegotiate(&mut client.stream, 256));
    let parts = client.shake();
    assert!(parts.len() > 1, "the hello came whole");
    rig.feed(client.address, &parts[0]);
    assert_eq!((rig.sessions.take_ended().len(), rig.sessions.open()), (1, 0));
}

#[test]
fn a_peer_that_begins_another_handshake_later_is_told_that_there_is_none() {
    let mut rig = Rig::new();
    let mut client = Client::new(1);
    rig.shake(&mut client);
    let peer = rig.say(&mut client, b"heard").expect("it was heard");
    assert!(ffi::renegotiate(&mut client.stream, 256));
    for part in client.shake() {
        let answers = rig.feed(client.address, &part);
        client.stream.get_mut().incoming.extend(answers);
    }
    assert_eq!((rig.sessions.take_ended(), rig.sessions.open()), (vec![], 1));
    let error = client.stream.do_handshake().unwrap_err();
    assert!(format!("{error:?}").contains("no renegotiation"), "{error:?}");
    rig.answer(peer, &mut client, b"answer");
}
