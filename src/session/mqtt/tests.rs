//! Promises of a session.

use super::fake::Rig;
use super::{Ending, LatePresence, StoredWill};
use crate::codec::mqtt::{Packet, PacketId, PublishHead, Qos, Version};
use crate::protocol::command::Command;
use crate::protocol::downlink::{Code, Ticket};
use crate::protocol::random::Random;
use crate::protocol::uplink::RecordRefusal;
use crate::session::fake::{field, parse};

const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBCOMP: u8 = 0x70;

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("above 0")
}

#[test]
fn online_precedes_everything_and_connack_is_sent() {
    let mut rig = Rig::new();
    rig.report(1, Qos::AtLeastOnce);
    assert_eq!(rig.types(), ["device.online", "device.properties.report"]);
    assert_eq!(rig.sent(), [(0x20, 0)]);
}

#[test]
fn no_acknowledgement_is_sent_before_the_queue_has_the_message() {
    for (qos, expected) in [(Qos::AtLeastOnce, PUBACK), (Qos::ExactlyOnce, PUBREC)] {
        let mut rig = Rig::settled();
        rig.report(7, qos);
        assert_eq!(rig.sent(), [], "{qos:?} was acknowledged too early");
        rig.receipt(1, true);
        assert_eq!(rig.sent(), [(expected, 7)]);
    }
}

#[test]
fn a_session_without_messages_holds_no_buffer_and_one_buffer_serves_messages_that_follow_each_other() {
    let mut rig = Rig::settled();
    for number in 1..=3 {
        rig.report(number, Qos::AtLeastOnce);
        rig.receipt(usize::from(number), true);
        assert!(!rig.session.window.has_buffer());
    }
    assert_eq!(rig.world.spare_buffers.count(), 1);
}

#[test]
fn a_record_that_the_queue_never_stores_is_rejected_and_acknowledged_once_that_is_stored() {
    let mut rig = Rig::settled();
    rig.report(1, Qos::AtLeastOnce);
    rig.report(2, Qos::AtLeastOnce);
    rig.refuse(1, &RecordRefusal::TooLarge("maximum payload exceeded".to_owned()));
    rig.receipt(2, true);
    assert_eq!(rig.sent(), [], "acknowledged before the rejected envelope was stored");
    assert_eq!(rig.types()[1..], ["device.properties.report", "device.properties.report", "bridge.rejected"]);
    let rejected = parse(&rig.world.uplink.published[3].1.payload);
    assert_eq!((&rejected["data"]["reason"], &rejected["sessionid"]), (&"too_large".into(), &rig.session.id().into()));
    rig.receipt(3, true);
    assert_eq!(rig.sent(), [(PUBACK, 1), (PUBACK, 2)]);
    assert_eq!((rig.world.load.held_bytes, rig.world.load.held_records), (0, 0));
    assert_eq!((rig.ending(), rig.events("RefusedByQueue")), (None, 1));
}

#[test]
fn a_rejected_envelope_that_the_queue_refuses_too_is_tried_again_and_never_acknowledged() {
    let mut rig = Rig::settled();
    let refusal = RecordRefusal::Rule("maximum messages per subject exceeded".to_owned());
    rig.report(1, Qos::AtLeastOnce);
    for index in 1..6 {
        rig.refuse(index, &refusal);
        rig.act(|session, ctx| session.retry(ctx));
    }
    assert_eq!(rig.types()[2..], ["bridge.rejected"; 5]);
    rig.pass(10);
    assert_eq!((rig.sent(), rig.ending()), (Vec::new(), Some(Ending::NotAcknowledged)));
}

#[test]
fn a_session_whose_withdrawn_online_the_queue_never_stores_is_finished_like_any_other() {
    let mut rig = Rig::new();
    rig.act(|session, ctx| session.end(Ending::TakenOver, ctx));
    assert!(!rig.session.is_finished(), "the fate of its online is not known");
    rig.refuse(0, &RecordRefusal::Rule("maximum messages per subject exceeded".to_owned()));
    assert!(rig.session.is_finished());
    assert_eq!(rig.session.take_late_presence(), None, "it is stored nowhere");
    assert_eq!((rig.world.load.held_bytes, rig.world.load.held_records), (0, 0));
    assert_eq!(rig.types(), ["device.online"], "nothing takes its place");
}

#[test]
fn a_session_whose_withdrawn_online_nobody_tells_of_is_finished_when_its_time_is_over() {
    let mut rig = Rig::new();
    rig.act(|session, ctx| session.end(Ending::TakenOver, ctx));
    rig.pass(9);
    assert!(!rig.session.is_finished(), "the fate of its online is not known");
    rig.pass(2);
    assert_eq!(rig.types(), ["device.online", "device.offline"], "it is not sent again, and ended in case it counts");
    rig.store_all();
    assert!(rig.session.is_finished(), "no new epoch has to begin for that");
    assert_eq!(rig.session.take_late_presence(), Some(LatePresence::Unknown), "it may be stored behind anything");
    assert_eq!((rig.world.load.held_bytes, rig.world.load.held_records), (0, 0));
}

#[test]
fn a_record_that_failed_alone_is_sent_again_while_the_queue_takes_others() {
    let mut rig = Rig::settled();
    rig.report(1, Qos::AtLeastOnce);
    rig.act(|session, ctx| session.retry(ctx));
    assert_eq!(rig.types().len(), 2, "a record that is under way was sent again");
    rig.receipt(1, false);
    rig.act(|session, ctx| session.retry(ctx));
    assert_eq!(rig.types().len(), 3);
    rig.receipt(2, true);
    assert_eq!(rig.sent(), [(PUBACK, 1)]);
}

#[test]
fn acknowledgements_keep_the_order_of_receipt_across_levels() {
    let mut rig = Rig::settled();
    rig.report(1, Qos::AtLeastOnce);
    rig.report(2, Qos::ExactlyOnce);
    rig.report(3, Qos::AtMostOnce);
    rig.report(4, Qos::AtLeastOnce);
    for index in [4, 2, 3] {
        rig.receipt(index, true);
    }
    assert_eq!(rig.sent(), []);
    rig.receipt(1, true);
    assert_eq!(rig.sent(), [(PUBACK, 1), (PUBREC, 2), (PUBACK, 4)]);
}

#[test]
fn a_qos_2_message_is_stored_once_for_each_packet_id_until_it_is_released() {
    let mut rig = Rig::settled();
    rig.report(5, Qos::ExactlyOnce);
    rig.report(5, Qos::ExactlyOnce);
    rig.receipt(1, true);
    rig.report(5, Qos::ExactlyOnce);
    assert_eq!(rig.sent(), [(PUBREC, 5), (PUBREC, 5)]);
    assert_eq!(rig.types().len(), 2, "the repetition was stored");
    rig.act(|session, ctx| session.packet(Packet::Pubrel(id(5)), ctx));
    assert_eq!(rig.sent(), [(PUBCOMP, 5)]);
    rig.report(5, Qos::ExactlyOnce);
    assert_eq!(rig.types().len(), 3, "a released id names a new message");
}

#[test]
fn what_cannot_be_understood_is_rejected_and_acknowledged() {
    let mut rig = Rig::settled();
    rig.publish("properties/report", "not json", Qos::AtLeastOnce, 1);
    rig.publish("nosuch", "{}", Qos::AtLeastOnce, 2);
    rig.publish("child/child2/properties/report", "{}", Qos::AtLeastOnce, 3);
    rig.store_all();
    assert_eq!(rig.types()[1..], ["bridge.rejected"; 3]);
    let reasons: Vec<String> = rig.world.uplink.published[1..]
        .iter()
        .map(|(_, record)| field(&parse(&record.payload)["data"], "reason"))
        .collect();
    assert_eq!(reasons, ["undecodable", "unknown_topic", "foreign_child"]);
    assert_eq!(rig.sent(), [(PUBACK, 1), (PUBACK, 2), (PUBACK, 3)]);
    assert_eq!(rig.ending(), None);
}

#[test]
fn a_packet_too_large_to_read_is_rejected_without_payload() {
    let mut rig = Rig::settled();
    let head = PublishHead {
        dup: false,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: "/product1/device1/properties/report",
        packet_id: Some(id(9)),
    };
    rig.act(|session, ctx| session.publish(&head, None, ctx));
    rig.receipt(1, true);
    let envelope = parse(&rig.world.uplink.published[1].1.payload);
    assert_eq!(field(&envelope["data"], "reason"), "too_large");
    assert!(envelope["data"].get("payload_base64").is_none());
    assert_eq!(rig.sent(), [(PUBACK, 9)]);
}

#[test]
fn a_topic_of_another_device_ends_the_session_and_writes_nothing_of_it() {
    let mut rig = Rig::settled();
    let head = PublishHead {
        dup: false,
        qos: Qos::AtLeastOnce,
        retain: false,
        topic: "/product1/device2/properties/report",
        packet_id: Some(id(1)),
    };
    rig.act(|session, ctx| session.publish(&head, Some(b"{}"), ctx));
    assert_eq!(rig.ending(), Some(Ending::ProtocolError));
    assert_eq!(rig.types(), ["device.online", "device.offline"]);
    assert_eq!(rig.events("Foreign"), 1);
    rig.store_all();
    assert_eq!(rig.sent(), []);
}

#[test]
fn the_registry_decides_the_product_of_a_bound_child() {
    let mut rig = Rig::settled();
    rig.publish("child/child1/properties/report", "{}", Qos::AtMostOnce, 0);
    rig.publish("child/stranger/properties/report", "{}", Qos::AtMostOnce, 0);
    let products: Vec<String> =
        rig.world.uplink.published[1..].iter().map(|(_, record)| field(&parse(&record.payload), "productid")).collect();
    assert_eq!(products, ["product2", "product1"]);
}

#[test]
fn a_full_window_takes_no_input_until_receipts_come() {
    let mut rig = Rig::settled();
    let wants = |rig: &Rig| rig.session.wants_input(&rig.world.limits, &rig.world.load);
    for n in 1..=4 {
        assert!(wants(&rig));
        rig.report(n, Qos::AtLeastOnce);
    }
    assert!(!wants(&rig));
    rig.receipt(2, true);
    assert!(!wants(&rig), "a receipt in the middle frees nothing");
    rig.receipt(1, true);
    assert!(wants(&rig));
}

#[test]
fn bytes_held_are_bounded_in_all_and_given_back() {
    let mut rig = Rig::settled();
    assert_eq!(rig.world.load.held_bytes, 0);
    rig.report(1, Qos::AtLeastOnce);
    let held_bytes = rig.world.load.held_bytes;
    assert!(held_bytes > 300, "{held_bytes}");
    rig.world.limits.inflight_bytes = held_bytes;
    assert!(!rig.session.wants_input(&rig.world.limits, &rig.world.load));
    rig.receipt(1, true);
    assert_eq!((rig.world.load.held_bytes, rig.world.load.held_records), (0, 0));
}

#[test]
fn a_queue_that_does_not_acknowledge_in_time_ends_the_session_without_acknowledgement() {
    let mut rig = Rig::settled();
    rig.report(1, Qos::AtMostOnce);
    rig.report(2, Qos::AtLeastOnce);
    rig.pass(9);
    assert_eq!(rig.ending(), None);
    rig.pass(1);
    assert_eq!(rig.ending(), Some(Ending::NotAcknowledged));
    assert_eq!((rig.events("Dropped"), rig.events("Unacknowledged")), (1, 1));
    assert!(!rig.session.is_finished(), "the offline is still to be stored");
    rig.act(|session, ctx| session.resend(ctx));
    rig.store_all();
    assert!(rig.session.is_finished());
    assert_eq!(rig.sent(), []);
    assert_eq!(rig.types().last().map(String::as_str), Some("device.offline"));
}

#[test]
fn silence_beyond_one_and_a_half_keep_alives_ends_the_session() {
    let mut rig = Rig::settled();
    rig.pass(89);
    assert_eq!(rig.ending(), None);
    rig.act(|session, ctx| session.heard(ctx.now.us));
    rig.pass(89);
    assert_eq!(rig.ending(), None);
    rig.pass(1);
    assert_eq!(rig.ending(), Some(Ending::KeepAlive));
}

#[test]
fn keep_alive_does_not_run_while_the_session_takes_no_input() {
    let mut rig = Rig::settled();
    rig.world.limits.ack_timeout_us = u64::MAX / 2;
    for n in 1..=4 {
        rig.report(n, Qos::AtLeastOnce);
    }
    rig.pass(1_000);
    assert_eq!(rig.ending(), None);
    rig.store_all();
    rig.pass(89);
    assert_eq!(rig.ending(), None);
}

#[test]
fn the_will_is_published_unless_the_device_said_goodbye_or_lives_on() {
    for (ending, expected) in [
        (Ending::ConnectionLost, &["device.event", "device.offline"][..]),
        (Ending::KeepAlive, &["device.event", "device.offline"]),
        (Ending::Disconnected, &["device.offline"]),
        (Ending::Kicked, &["device.offline"]),
        (Ending::Drained, &["device.offline"]),
        (Ending::Age, &["device.offline"]),
        (Ending::Shed, &["device.offline"]),
        (Ending::TakenOver, &[]),
    ] {
        let will = StoredWill { topic: "/product1/device1/event/gone".into(), payload: (*b"{}").into() };
        let mut rig = Rig::with_will(Version::V311, Some(will));
        rig.act(|session, ctx| session.end(ending, ctx));
        assert_eq!(rig.types()[1..], *expected, "{ending:?}");
    }
}

#[test]
fn a_will_for_another_device_is_not_published() {
    let will = StoredWill { topic: "/product1/device2/event/gone".into(), payload: (*b"{}").into() };
    let mut rig = Rig::with_will(Version::V311, Some(will));
    rig.act(|session, ctx| session.end(Ending::ConnectionLost, ctx));
    assert_eq!(rig.types(), ["device.online", "device.offline"]);
}

#[test]
fn draining_waits_for_the_acknowledgements() {
    let mut rig = Rig::settled();
    rig.report(1, Qos::AtLeastOnce);
    rig.act(|session, ctx| session.drain(Ending::Drained, ctx));
    assert!(!rig.session.wants_input(&rig.world.limits, &rig.world.load));
    assert_eq!(rig.ending(), None);
    rig.receipt(1, true);
    assert_eq!(rig.sent(), [(PUBACK, 1)]);
    assert_eq!(rig.ending(), Some(Ending::Drained));
    assert_eq!(rig.types().last().map(String::as_str), Some("device.offline"));
}

#[test]
fn the_time_is_answered_at_once_and_acknowledged_in_its_place() {
    let mut rig = Rig::settled();
    rig.report(1, Qos::AtLeastOnce);
    rig.publish("time-sync", r#"{"messageId":"m1"}"#, Qos::AtLeastOnce, 2);
    assert_eq!(rig.sent(), [(0x30, 0)]);
    rig.receipt(1, true);
    assert_eq!(rig.sent(), [(PUBACK, 1), (PUBACK, 2)]);
    assert_eq!(rig.types().len(), 2, "the question for the time reached the queue");
}

#[test]
fn a_foreign_filter_is_refused_in_3_1_1_and_granted_in_3_1() {
    for (version, foreign) in [(Version::V311, 0x80), (Version::V31, 1)] {
        let mut rig = Rig::with_will(version, None);
        rig.world.sent.clear();
        let mut bytes = Vec::new();
        let filters = [("/product1/device1/#", Qos::ExactlyOnce), ("/product1/device2/#", Qos::AtLeastOnce)];
        crate::codec::mqtt::encode::subscribe(&mut bytes, id(3), &filters);
        let packet = crate::codec::mqtt::decode(version, bytes[0], &bytes[2..]).expect("well formed");
        rig.act(|session, ctx| session.packet(packet, ctx));
        assert_eq!(rig.world.sent, [0x90, 4, 0, 3, 1, foreign], "{version:?}");
    }
}

#[test]
fn a_second_connect_breaks_the_protocol() {
    let mut rig = Rig::settled();
    rig.act(|session, ctx| session.packet(Packet::ConnectOfOtherVersion, ctx));
    assert_eq!(rig.ending(), Some(Ending::ProtocolError));
}

#[test]
fn acknowledgements_of_qos_2_are_answered_or_ignored_but_for_a_command_of_qos_1() {
    for packet in [Packet::Pubrec(id(1)), Packet::Pubcomp(id(1))] {
        let mut rig = Rig::settled();
        let mut bytes = Vec::new();
        crate::codec::mqtt::encode::subscribe(&mut bytes, id(3), &[("/product1/device1/#", Qos::AtLeastOnce)]);
        let subscribe = crate::codec::mqtt::decode(Version::V311, bytes[0], &bytes[2..]).expect("well formed");
        rig.act(|session, ctx| session.packet(subscribe, ctx));
        rig.sent();
        rig.act(|session, ctx| session.packet(packet, ctx));
        let expected = if packet == Packet::Pubrec(id(1)) { vec![(0x62, 1)] } else { vec![] };
        assert_eq!((rig.sent(), rig.ending()), (expected, None));
        command(&mut rig, 1, &format!("{READ}}}"));
        assert_eq!(rig.sent(), [(0x32, 1)]);
        rig.act(|session, ctx| session.packet(packet, ctx));
        assert_eq!((rig.sent(), rig.ending()), (vec![], Some(Ending::ProtocolError)), "{packet:?}");
    }
}

#[test]
fn a_filter_too_many_is_refused_in_3_1_1_and_granted_in_3_1() {
    for (version, expected) in [(Version::V311, 0x80), (Version::V31, 0)] {
        let mut rig = Rig::with_will(version, None);
        for number in 0..=64 {
            rig.world.sent.clear();
            let mut bytes = Vec::new();
            let filter = format!("/product1/device1/{number}");
            crate::codec::mqtt::encode::subscribe(&mut bytes, id(3), &[(&filter, Qos::AtMostOnce)]);
            let packet = crate::codec::mqtt::decode(version, bytes[0], &bytes[2..]).expect("well formed");
            rig.act(|session, ctx| session.packet(packet, ctx));
        }
        assert_eq!(rig.world.sent, [0x90, 3, 0, 3, expected], "{version:?}");
    }
}

fn command(rig: &mut Rig, ticket: u64, json: &str) -> Option<u64> {
    let command = Command::from_json(json.as_bytes());
    rig.act(|session, ctx| session.command(Some(Ticket(ticket)), command, ctx))
}

const READ: &str = r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","properties":["sn"]"#;

fn codes(rig: &Rig) -> Vec<(u64, Option<Code>)> {
    let outcomes = rig.world.downlink.outcomes.iter();
    outcomes.map(|(ticket, outcome)| (ticket.0, outcome.failure.as_ref().map(|(code, _)| *code))).collect()
}

#[test]
fn the_reply_of_the_device_is_the_outcome_and_a_message_like_any_other() {
    let mut rig = Rig::settled();
    assert!(command(&mut rig, 1, &format!("{READ}}}")).is_some());
    assert_eq!(rig.sent(), [(0x30, 0)]);
    rig.publish("properties/read/reply", r#"{"messageId":"other","properties":{}}"#, Qos::AtMostOnce, 0);
    assert_eq!(codes(&rig), []);
    rig.publish("properties/read/reply", r#"{"messageId":"1024","properties":{"sn":"1"}}"#, Qos::AtMostOnce, 0);
    assert_eq!(codes(&rig), [(1, None)]);
    let outcome = parse(&rig.world.downlink.outcomes[0].1.payload);
    let record = parse(&rig.world.uplink.published[2].1.payload);
    assert_eq!(field(&outcome, "correlationid"), "1024");
    assert_eq!((&outcome["id"], &outcome["data"]), (&record["id"], &record["data"]));
    assert!(record.get("correlationid").is_none());
    assert_eq!(rig.world.load.commands, 0);
}

#[test]
fn a_silent_device_gives_time_out_at_the_commands_own_deadline() {
    let mut rig = Rig::settled();
    let deadline_us = command(&mut rig, 1, &format!(r#"{READ},"headers":{{"timeout":2000}}}}"#));
    assert_eq!(deadline_us, Some(rig.world.now.us + 2_000_000));
    rig.world.now.us += 1_999_999;
    rig.act(|session, ctx| session.expire(ctx));
    assert_eq!(codes(&rig), []);
    rig.world.now.us += 1;
    rig.act(|session, ctx| session.expire(ctx));
    assert_eq!(codes(&rig), [(1, Some(Code::TimeOut))]);
    rig.publish("properties/read/reply", r#"{"messageId":"1024"}"#, Qos::AtMostOnce, 0);
    assert_eq!(codes(&rig).len(), 1, "a late reply is an ordinary message");
}

#[test]
fn an_asynchronous_command_is_answered_when_written_or_acknowledged() {
    let mut rig = Rig::settled();
    let json = format!(r#"{READ},"headers":{{"async":true}}}}"#);
    command(&mut rig, 1, &json);
    assert_eq!(codes(&rig).len(), 1, "QoS 0: when it is written");
    let mut bytes = Vec::new();
    crate::codec::mqtt::encode::subscribe(&mut bytes, id(3), &[("/product1/device1/#", Qos::AtLeastOnce)]);
    let packet = crate::codec::mqtt::decode(Version::V311, bytes[0], &bytes[2..]).expect("well formed");
    rig.act(|session, ctx| session.packet(packet, ctx));
    rig.sent();
    command(&mut rig, 2, &json);
    assert_eq!(rig.sent(), [(0x32, 1)]);
    assert_eq!(codes(&rig).len(), 1, "QoS 1: not before PUBACK");
    rig.act(|session, ctx| session.packet(Packet::Puback(id(1)), ctx));
    let outcome = parse(&rig.world.downlink.outcomes[1].1.payload);
    assert_eq!(outcome["data"]["success"], true);
    assert_eq!(field(&outcome["data"], "code"), "REQUEST_HANDLING");
}

#[test]
fn commands_that_cannot_be_carried_out_say_why() {
    let mut rig = Rig::settled();
    let with_id = format!(r#"{READ},"messageId":"m1"}}"#);
    command(&mut rig, 1, &with_id);
    command(&mut rig, 2, &with_id);
    command(&mut rig, 3, &format!("{READ}}}"));
    command(&mut rig, 4, &format!("{READ}}}"));
    command(&mut rig, 5, &format!("{READ}}}"));
    command(&mut rig, 6, r#"{"messageType":"LOG","productId":"product1","deviceId":"device1"}"#);
    let foreign = r#"{"messageType":"READ_PROPERTY","productId":"product1","gatewayId":"device1","deviceId":"child2","properties":[]}"#;
    command(&mut rig, 7, foreign);
    assert_eq!(
        codes(&rig),
        [
            (2, Some(Code::ParameterError)),
            (5, Some(Code::SystemBusy)),
            (6, Some(Code::UnsupportedMessage)),
            (7, Some(Code::ParameterError)),
        ]
    );
    rig.act(|session, ctx| session.end(Ending::ConnectionLost, ctx));
    let lost: Vec<_> = codes(&rig).into_iter().filter(|(_, code)| *code == Some(Code::ConnectionLost)).collect();
    assert_eq!(lost.len(), 3, "each waiting command has its outcome");
    assert_eq!(rig.world.load.commands, 0);
}

#[test]
fn disconnect_is_answered_and_closes_the_session() {
    let mut rig = Rig::settled();
    command(&mut rig, 1, r#"{"messageType":"DISCONNECT","productId":"product1","deviceId":"device1"}"#);
    assert_eq!(rig.ending(), Some(Ending::Kicked));
    let outcome = parse(&rig.world.downlink.outcomes[0].1.payload);
    assert_eq!(field(&outcome["data"], "messageType"), "DISCONNECT_REPLY");
    assert_eq!(rig.sent(), []);
}

/// A queue that stores, fails, forgets and goes away as it pleases, under a device that publishes as fast as it may.
#[test]
fn whatever_the_queue_does_acknowledged_messages_are_stored_and_the_last_copies_are_in_order() {
    for seed in 1..=300_u64 {
        let mut numbers = Random::new(seed.into());
        let mut random = move |below: u64| numbers.below(below);
        let mut rig = Rig::settled();
        let mut stored: Vec<u16> = Vec::new();
        let mut acknowledged = 0_u16;
        let mut next = 1_u16;
        let mut open: Vec<usize> = Vec::new();
        let mut seen = rig.world.uplink.published.len();
        let mut healthy = false;
        while acknowledged < 40 {
            if next > 400 {
                healthy = true;
            }
            while rig.session.wants_input(&rig.world.limits, &rig.world.load) && next <= 40 {
                rig.report(next, Qos::AtLeastOnce);
                next += 1;
            }
            open.extend(seen..rig.world.uplink.published.len());
            seen = rig.world.uplink.published.len();
            match random(10) {
                0 if !healthy => rig.world.uplink.refuses = true,
                1 => {
                    rig.world.uplink.refuses = false;
                    open.retain(|_| random(2) == 0);
                    rig.act(|session, ctx| session.resend(ctx));
                }
                _ if open.is_empty() => {
                    rig.world.uplink.refuses = false;
                    rig.act(|session, ctx| session.resend(ctx));
                }
                choice => {
                    // The queue stores in the order of handing over; a failed copy is not stored, its receipt may be late.
                    let index = open.remove(0);
                    let fails = choice == 2;
                    if !fails {
                        stored.push(number(&rig, index));
                    }
                    rig.receipt(index, !fails);
                }
            }
            for (_, number) in rig.sent() {
                acknowledged += 1;
                assert_eq!(number, acknowledged, "seed {seed}: acknowledged out of order");
                assert!(stored.contains(&number), "seed {seed}: {number} was acknowledged and not stored");
                let last = |wanted: u16| stored.iter().rposition(|&n| n == wanted);
                assert!(
                    (1..number).all(|before| last(before) < last(number)),
                    "seed {seed}: last copies out of order at {number}: {stored:?}"
                );
            }
        }
    }
}

fn number(rig: &Rig, index: usize) -> u16 {
    let envelope = parse(&rig.world.uplink.published[index].1.payload);
    envelope["data"]["properties"]["n"].to_string().parse().expect("a counter")
}

#[test]
fn online_is_late_by_the_time_of_its_connect_and_not_of_its_session() {
    for (accepted_us, expected) in [(1_000_000, None), (0, Some(LatePresence::Stored))] {
        let mut rig = Rig::new();
        rig.session.note_accepted(accepted_us);
        rig.world.now.us += 500_000;
        rig.store_all();
        assert_eq!(rig.session.take_late_presence(), expected, "accepted at {accepted_us} us");
    }
}
