//! The message layer: what is acknowledged, answered again, sent again.

use super::super::fake::{KEY, Rig, encrypted, key, message_token, non, only, peer, post, report};
use super::super::{PeerKey, Security, Settings, endpoint_of};
use crate::codec::coap::{Block, Code, Kind, MessageBuilder, empty, option};
use crate::protocol::cipher;
use crate::protocol::uplink::RecordRefusal;
use crate::protocol::uplink::{Channel, DeliveryId, SlotId};
use crate::session::mqtt::Event;

#[test]
fn a_con_is_answered_in_its_acknowledgement_and_a_non_by_a_non() {
    let mut rig = Rig::new();
    assert!(rig.feed(&report(1)).is_empty());
    let sent = rig.receipt(0, true);
    assert_eq!((only(&sent).kind(), only(&sent).id(), only(&sent).code()), (Kind::Acknowledgement, 1, Code::CREATED));
    assert!(rig.feed(&non(report(2))).is_empty());
    let sent = rig.receipt(1, true);
    assert_eq!((only(&sent).kind(), only(&sent).code()), (Kind::NonConfirmable, Code::CREATED));
    assert_eq!(only(&sent).token(), message_token(7));
    rig.assert_empty();
}

#[test]
fn pings_and_answers_that_nobody_asked_for_are_reset() {
    let mut rig = Rig::new();
    let answer = |kind| MessageBuilder::new(kind, Code::CONTENT, 5, message_token(1)).encode();
    for datagram in [empty(Kind::Confirmable, 5).to_vec(), answer(Kind::Confirmable), vec![0x40, 2, 0, 5, 0xff]] {
        let sent = rig.feed(&datagram);
        assert_eq!((only(&sent).kind(), only(&sent).id(), only(&sent).code()), (Kind::Reset, 5, Code::EMPTY));
    }
    let silent = [
        answer(Kind::NonConfirmable),
        answer(Kind::Acknowledgement),
        answer(Kind::Reset),
        empty(Kind::NonConfirmable, 5).to_vec(),
        empty(Kind::Acknowledgement, 5).to_vec(),
        empty(Kind::Reset, 5).to_vec(),
        vec![0x80, 2, 0, 5],
        vec![0x50, 2, 0, 5, 0xff],
        vec![],
    ];
    for datagram in silent {
        assert!(rig.feed(&datagram).is_empty(), "{datagram:02x?}");
    }
    rig.assert_empty();
}

#[test]
fn a_duplicate_is_answered_again_and_written_once() {
    let mut rig = Rig::new();
    rig.feed(&report(1));
    assert!(rig.feed(&report(1)).is_empty(), "a duplicate was answered before its request");
    let first = rig.receipt(0, true);
    for _ in 0..3 {
        assert_eq!(rig.feed(&report(1)), first);
    }
    assert!(rig.feed_raw(peer(2), &report(1)).is_empty(), "another peer's id is another request");
    assert_eq!(rig.world.uplink.published.len(), 2);
    assert!(rig.told("Duplicate"));
}

#[test]
fn a_late_duplicate_of_a_block_becomes_no_part_of_the_next_body() {
    let mut rig = Rig::new();
    let body = |n: u8| {
        let json = format!(r#"{{"properties":{{"text":"{}"}}}}"#, char::from(b'a' + n).to_string().repeat(100));
        cipher::encrypt(cipher::key(KEY).expect("16 bytes"), json.as_bytes())
    };
    let block = |n: u8, number: u32| {
        let block = Block { number, more: number == 0, size_exponent: 2 };
        let body = body(n);
        let (first, second) = body.split_at(64);
        post(u16::from(n) * 2 + number as u16, "/product1/device1/properties/report")
            .uint(option::BLOCK1, block.to_uint())
            .payload(if number == 0 { first } else { second })
            .encode()
    };
    let continued = rig.feed(&block(0, 0));
    assert_eq!(rig.feed(&block(0, 0)), continued);
    rig.feed(&block(0, 1));
    assert_eq!(only(&rig.receipt(0, true)).code(), Code::CREATED);
    rig.feed(&block(1, 0));
    assert_eq!(only(&rig.feed(&block(0, 0))).code(), Code::REQUEST_ENTITY_INCOMPLETE);
    rig.feed(&block(1, 1));
    assert_eq!(only(&rig.receipt(1, true)).code(), Code::CREATED);
    assert_eq!(rig.envelopes()[1]["data"]["properties"]["text"], "b".repeat(100));
}

#[test]
fn a_message_id_used_again_with_another_token_or_after_its_time_is_a_new_request() {
    let mut rig = Rig::new();
    rig.feed(&report(1));
    rig.receipt(0, true);
    let mut restarted = report(1);
    restarted[4] ^= 1;
    assert!(rig.feed(&restarted).is_empty());
    assert_eq!(rig.world.uplink.published.len(), 2);
    rig.receipt(1, true);
    rig.pass_ms(247_000);
    rig.feed(&report(1));
    assert_eq!(rig.world.uplink.published.len(), 3);
}

#[test]
fn a_rejected_message_is_written_once_too() {
    let mut rig = Rig::new();
    let datagram = encrypted(1, "nosuch", "{}");
    rig.feed(&datagram);
    let first = rig.receipt(0, true);
    assert_eq!(only(&first).code(), Code::NOT_FOUND);
    assert_eq!(rig.feed(&datagram), first);
    assert_eq!(rig.world.uplink.published.iter().filter(|(_, record)| record.channel == Channel::Rejected).count(), 1);
}

#[test]
fn what_takes_long_gets_an_empty_acknowledgement_and_its_answer_until_that_is_acknowledged() {
    let mut rig = Rig::new();
    rig.feed(&report(1));
    assert!(rig.pass_ms(999).is_empty());
    let sent = rig.pass_ms(1);
    assert_eq!((only(&sent).kind(), only(&sent).id(), only(&sent).code()), (Kind::Acknowledgement, 1, Code::EMPTY));
    let again = rig.feed(&report(1));
    assert_eq!((only(&again).kind(), only(&again).code()), (Kind::Acknowledgement, Code::EMPTY));
    let answer = rig.receipt(0, true);
    assert_eq!((only(&answer).kind(), only(&answer).code()), (Kind::Confirmable, Code::CREATED));
    assert_eq!(only(&answer).token(), message_token(7));
    let mut times = Vec::new();
    for tick in 1..=1000_u32 {
        for sent in rig.pass_ms(100) {
            assert_eq!(sent, answer[0]);
            times.push(tick);
        }
    }
    assert_eq!(times.len(), 4, "MAX_RETRANSMIT: {times:?}");
    assert!((20..=31).contains(&times[0]), "ACK_TIMEOUT: {times:?}");
    for pair in times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>().windows(2) {
        assert!(pair[1].abs_diff(2 * pair[0]) <= 4, "twice the time before: {times:?}");
    }
    rig.assert_empty();
    let late = rig.feed(&report(1));
    assert_eq!(
        late.iter().map(|sent| (sent.kind(), sent.code())).collect::<Vec<_>>(),
        [(Kind::Acknowledgement, Code::EMPTY), (Kind::Confirmable, Code::CREATED)]
    );
    assert_eq!(rig.world.uplink.published.len(), 1);
}

#[test]
fn an_answer_of_its_own_ends_with_acknowledgement_or_reset() {
    for kind in [Kind::Acknowledgement, Kind::Reset] {
        let mut rig = Rig::new();
        rig.feed(&report(1));
        rig.pass_ms(1000);
        let answer = rig.receipt(0, true);
        assert_eq!(rig.endpoint.in_flight(), 1);
        assert!(rig.feed(&empty(kind, only(&answer).id())).is_empty());
        rig.assert_empty();
        assert!(rig.pass_ms(60_000).is_empty());
    }
}

#[test]
fn a_non_gets_no_empty_acknowledgement() {
    let mut rig = Rig::new();
    rig.feed(&non(report(1)));
    assert!(rig.pass_ms(5000).is_empty());
    let sent = rig.receipt(0, true);
    assert_eq!((only(&sent).kind(), only(&sent).code()), (Kind::NonConfirmable, Code::CREATED));
    rig.assert_empty();
}

#[test]
fn without_a_receipt_in_time_the_answer_is_to_try_again_and_a_late_receipt_changes_nothing() {
    let mut rig = Rig::new();
    rig.feed(&report(1));
    rig.feed(&non(report(2)));
    rig.pass_ms(9999);
    let sent = rig.pass_ms(1);
    assert_eq!(
        sent.iter().map(|sent| (sent.kind(), sent.code())).collect::<Vec<_>>(),
        [(Kind::Confirmable, Code::SERVICE_UNAVAILABLE), (Kind::NonConfirmable, Code::SERVICE_UNAVAILABLE)]
    );
    assert_eq!(sent[0].uint(option::MAX_AGE), Some(5));
    assert!(rig.told("Message(Unacknowledged)") && rig.told("Dropped(AckTimeout)"));
    assert!(rig.receipt(0, true).is_empty() && rig.receipt(1, true).is_empty());
    assert_eq!((rig.world.load.held_bytes, rig.world.load.held_records), (0, 0));
    rig.feed(&report(1));
    assert_eq!(rig.world.uplink.published.len(), 2, "a duplicate of what was handed over was written again");
}

#[test]
fn a_record_that_the_queue_never_stores_is_rejected_and_answered_4_13_or_4_00_once_that_is_stored() {
    for (refusal, reason, code) in [
        (RecordRefusal::TooLarge("too large".to_owned()), "too_large", Code::REQUEST_ENTITY_TOO_LARGE),
        (RecordRefusal::Rule("not here".to_owned()), "refused", Code::BAD_REQUEST),
    ] {
        let mut rig = Rig::new();
        rig.feed(&report(1));
        assert!(rig.refuse(0, &refusal).is_empty(), "answered before the rejected envelope was stored");
        let rejected = &rig.envelopes()[1];
        assert_eq!((&rejected["data"]["reason"], &rejected["deviceid"]), (&reason.into(), &"device1".into()));
        let sent = rig.receipt(1, true);
        assert_eq!((only(&sent).kind(), only(&sent).code()), (Kind::Acknowledgement, code));
        assert!(rig.told("device1 Message(RefusedByQueue"));
        rig.assert_empty();
        rig.feed(&report(2));
        rig.refuse(2, &refusal);
        assert_eq!(
            only(&rig.refuse(3, &refusal)).code(),
            Code::SERVICE_UNAVAILABLE,
            "nothing can replace a replacement"
        );
        rig.assert_empty();
    }
}

#[test]
fn a_registry_that_does_not_answer_in_time_is_no_reason_to_let_in() {
    let mut rig = Rig::new();
    rig.registry_waits = true;
    rig.feed(&report(1));
    assert_eq!(only(&rig.pass_ms(1000)).code(), Code::EMPTY);
    let sent = rig.pass_ms(9000);
    assert_eq!((only(&sent).kind(), only(&sent).code()), (Kind::NonConfirmable, Code::SERVICE_UNAVAILABLE));
    assert!(rig.look_up().is_empty(), "the registry's late answer opened a closed request");
    assert!(rig.world.uplink.published.is_empty());
    rig.assert_empty();
    rig.feed(&report(2));
    rig.pass_ms(1000);
    rig.look_up();
    assert_eq!(only(&rig.receipt(0, true)).kind(), Kind::Confirmable);
}

#[test]
fn when_the_queue_is_back_records_are_handed_over_again_in_order() {
    let mut rig = Rig::new();
    for id in [3, 1, 2] {
        rig.feed(&report(id));
    }
    rig.act(|endpoint, ctx| endpoint.resend(ctx));
    let envelopes = rig.envelopes();
    assert_eq!(envelopes[..3], envelopes[3..], "ids or order changed");
    assert!(rig.receipt(0, true).is_empty(), "a receipt of an earlier copy counted");
    assert!(rig.receipt(0, false).is_empty(), "a failure of an earlier copy counted");
    for (copy, id) in (3..).zip([3, 1, 2]) {
        let sent = rig.receipt(copy, true);
        assert_eq!((only(&sent).id(), only(&sent).code()), (id, Code::CREATED));
    }
    rig.assert_empty();
}

#[test]
fn delivery_ids_of_an_endpoint_are_told_from_those_of_sessions_and_other_endpoints() {
    let mut rig = Rig::new();
    rig.feed(&report(1));
    let id = rig.world.uplink.published[0].0;
    assert_eq!(endpoint_of(id.slot), Some(3));
    assert_eq!(endpoint_of(SlotId { index: 5, ..id.slot }), None);
    let other = DeliveryId { slot: SlotId { index: id.slot.index ^ (1 << 24), ..id.slot }, ..id };
    assert!(rig.act(|endpoint, ctx| endpoint.receipt(other, true, ctx)).1.is_empty());
    let later = DeliveryId { slot: SlotId { generation: 1, ..id.slot }, ..id };
    assert!(rig.act(|endpoint, ctx| endpoint.receipt(later, true, ctx)).1.is_empty());
    assert_eq!(only(&rig.receipt(0, true)).code(), Code::CREATED);
}

#[test]
fn requests_of_one_peer_are_bounded_and_others_go_on() {
    let mut rig = Rig::with(Settings { exchanges_per_peer: 3, ..Settings::new(3, Security::Aes, key()) });
    for id in 0..3 {
        assert!(rig.feed(&report(id)).is_empty());
    }
    assert_eq!(only(&rig.feed(&report(3))).code(), Code::SERVICE_UNAVAILABLE);
    assert!(rig.feed_raw(peer(2), &report(4)).is_empty());
    assert_eq!(rig.world.uplink.published.len(), 4);
    rig.receipt(0, true);
    assert!(rig.feed(&report(3)).is_empty(), "a turned away request was remembered");
    assert_eq!(rig.world.uplink.published.len(), 5);
}

#[test]
fn what_waits_for_the_registry_is_bounded_in_bytes() {
    let mut rig = Rig::with(Settings { unproven_bytes: 10_000, ..Settings::new(3, Security::Aes, key()) });
    rig.registry_waits = true;
    let mut turned_away = 0;
    for number in 0..100 {
        turned_away += rig.feed_raw(peer(number), &report(number)).len();
        assert!(rig.endpoint.held().parked_bytes <= 10_000);
        assert_eq!(rig.world.load.held_bytes, rig.endpoint.held().parked_bytes);
    }
    assert!(turned_away > 50 && turned_away < 100, "{turned_away}");
    rig.look_up();
    assert_eq!(rig.world.uplink.published.len(), 100 - turned_away);
}

#[test]
fn a_forgotten_peer_gets_nothing_more_and_holds_nothing() {
    let mut rig = Rig::new();
    rig.feed(&report(1));
    rig.feed(&report(2));
    rig.pass_ms(1000);
    rig.receipt(1, true);
    rig.registry_waits = true;
    rig.feed(&report(3));
    rig.act(|endpoint, ctx| endpoint.forget(peer(1), ctx));
    rig.assert_empty();
    assert!(rig.look_up().is_empty());
    assert!(rig.receipt(0, true).is_empty());
    assert!(rig.pass_ms(60_000).is_empty());
    assert_eq!(rig.endpoint.held().remembered, 0);
}

#[test]
fn what_is_stored_is_told_with_its_latency() {
    let mut rig = Rig::new();
    rig.feed(&report(1));
    rig.pass_ms(30);
    rig.receipt(0, true);
    let stored = super::super::Event::Message(Event::Stored { latency_us: 30_000, queue_us: 30_000 });
    assert!(rig.told(&format!("device1 {stored:?}")));
}

#[test]
fn sessions_and_addresses_are_different_peers() {
    let mut rig = Rig::new();
    rig.feed(&report(1));
    rig.feed_raw(PeerKey::Session(1), &report(1));
    rig.feed_raw(PeerKey::Session(2), &report(1));
    assert_eq!(rig.world.uplink.published.len(), 3);
}
