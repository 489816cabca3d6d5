//! Outcomes of commands.

use super::fake::{CALLER_BYTES, Rig};
use super::{BoundChild, Ending, Pending};
use crate::codec::mqtt::{Qos, Version};
use crate::protocol::command::Command;
use crate::protocol::downlink::{Code, Ticket};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::topic::MessageType;
use crate::protocol::trace::Span;
use crate::session::fake::{field, parse};

const READ: &str = r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","messageId":"m1"}"#;

fn command(rig: &mut Rig, ticket: u64, json: &str) -> Option<u64> {
    let command = Command::from_json(json.as_bytes());
    rig.act(|session, ctx| session.command(Some(Ticket(ticket)), command, ctx))
}

fn codes(rig: &Rig) -> Vec<(u64, Option<Code>)> {
    let outcomes = rig.world.downlink.outcomes.iter();
    outcomes.map(|(ticket, outcome)| (ticket.0, outcome.failure.as_ref().map(|(code, _)| *code))).collect()
}

#[test]
fn every_byte_that_a_waiting_command_keeps_is_counted_and_given_back_however_it_ends() {
    let (mut rig, _spans) = Rig::traced(1.0);
    let (id, correlation) = ("m".repeat(128), "c".repeat(128));
    let json = format!(
        r#"{{"messageType":"WRITE_PROPERTY","productId":"product1","gatewayId":"device1","deviceId":"child3",
            "messageId":"{id}","headers":{{"correlation-id":"{correlation}"}},"properties":{{"a":"{}"}}}}"#,
        "x".repeat(100_000)
    );
    command(&mut rig, 1, &json);
    let held = rig.world.load.command_bytes;
    let texts = "product1".len() + "device1".len() + "child3".len() + id.len() + correlation.len();
    let span = size_of::<Span>() + texts;
    assert!(held >= size_of::<Pending>() + texts + span + CALLER_BYTES, "{held}");
    assert!(held < 2500, "what the device has is not kept: {held}");
    rig.publish("child/child3/properties/write/reply", &format!(r#"{{"messageId":"{id}"}}"#), Qos::AtMostOnce, 0);
    assert_eq!((codes(&rig), rig.world.load.command_bytes), (vec![(1, None)], 0));
    command(&mut rig, 2, READ);
    rig.world.now.us += 10_000_000;
    rig.act(|session, ctx| session.expire(ctx));
    assert_eq!(rig.world.load.command_bytes, 0);
    command(&mut rig, 3, READ);
    rig.act(|session, ctx| session.end(Ending::ConnectionLost, ctx));
    assert_eq!((codes(&rig).len(), rig.world.load.command_bytes), (3, 0));
}

#[test]
fn commands_that_would_keep_more_than_their_share_of_memory_find_the_bridge_busy() {
    let mut rig = Rig::settled();
    command(&mut rig, 1, READ);
    rig.world.limits.inflight_bytes = 8 * rig.world.load.command_bytes;
    assert_eq!(rig.world.limits.command_bytes(), rig.world.load.command_bytes);
    command(&mut rig, 2, &READ.replace("m1", "m2"));
    assert_eq!(codes(&rig), [(2, Some(Code::SystemBusy))]);
    command(&mut rig, 3, &READ.replace("m1", "m3").replace('}', r#","headers":{"sendAndForget":true}}"#));
    assert_eq!(codes(&rig)[1..], [(3, None)], "it keeps nothing");
    rig.publish("properties/read/reply", r#"{"messageId":"m1"}"#, Qos::AtMostOnce, 0);
    command(&mut rig, 4, &READ.replace("m1", "m4"));
    assert_eq!(codes(&rig)[2..], [(1, None)], "there is room again");
    command(&mut rig, 5, r#"{"messageType":"DISCONNECT","productId":"product1","deviceId":"device1"}"#);
    assert_eq!(rig.ending(), Some(Ending::Kicked), "it frees what the others keep");
}

#[test]
fn no_packet_has_more_bytes_than_its_command_was_said_to_take() {
    let ids = ["m".repeat(128), "\\u0007".repeat(128)];
    for message_type in MessageType::all().filter(|message_type| message_type.goes_down()) {
        for id in &ids {
            for (device, gateway) in [("device1", ""), ("child1", r#""gatewayId":"device1","#), ("child9", "")] {
                let bound = BoundChild {
                    product: ProductId::new("product2").expect("an id"),
                    id: DeviceId::new("child9").expect("an id"),
                };
                let mut rig = Rig::with(Version::V311, None, vec![bound]);
                rig.world.sent.clear();
                let product = if device == "child9" { "product2" } else { "product1" };
                let json = format!(
                    r#"{{"messageType":"{}","productId":"{product}",{gateway}"deviceId":"{device}","messageId":"{id}",
                        "functionId":"f","payload":"AAECAw==","x":"{id}"}}"#,
                    message_type.name()
                );
                let command = Command::from_json(json.as_bytes()).expect("a command");
                let said = command.packet_bytes_max();
                rig.act(|session, ctx| session.command(Some(Ticket(1)), Ok(command), ctx));
                assert!(rig.world.sent.len() <= said, "{json}: {} of {said}", rig.world.sent.len());
            }
        }
    }
}

#[test]
fn a_time_out_above_the_longest_one_is_refused_and_the_longest_one_is_not() {
    let mut rig = Rig::settled();
    let with = |timeout_ms: u64| READ.replace('}', &format!(r#","headers":{{"timeout":{timeout_ms}}}}}"#));
    let now_us = rig.world.now.us;
    assert_eq!(command(&mut rig, 1, &with(600_001)), None);
    assert_eq!(command(&mut rig, 2, &with(1_000_000_000_000)), None);
    assert_eq!(codes(&rig), [(1, Some(Code::ParameterError)), (2, Some(Code::ParameterError))]);
    assert!(rig.sent().is_empty(), "nothing of it was sent");
    assert_eq!(command(&mut rig, 3, &with(600_000)), Some(now_us + 600_000_000));
}

#[test]
fn a_reply_that_cannot_be_decoded_ends_its_command_at_once_with_what_is_wrong_with_it() {
    let mut rig = Rig::settled();
    command(&mut rig, 1, READ);
    for (suffix, body) in [
        ("properties/read/reply", r#"{"messageId":"m2","success":"perhaps"}"#),
        ("properties/report", r#"{"messageId":"m1","properties":7}"#),
        ("child/child1/properties/read/reply", r#"{"messageId":"m1","success":"perhaps"}"#),
        ("properties/read/reply", r#"{"success":"perhaps"}"#),
        ("properties/read/reply", r#"{"messageId":"m1""#),
    ] {
        rig.publish(suffix, body, Qos::AtMostOnce, 0);
        assert_eq!(codes(&rig), [], "{suffix} {body}");
    }
    rig.publish("properties/read/reply", r#"{"messageId":"m1","success":"perhaps"}"#, Qos::AtMostOnce, 0);
    assert_eq!(codes(&rig), [(1, Some(Code::ParameterError))]);
    let outcome = parse(&rig.world.downlink.outcomes[0].1.payload);
    assert_eq!((field(&outcome, "origin"), field(&outcome, "correlationid")), ("bridge".to_owned(), "m1".to_owned()));
    assert_eq!(field(&outcome["data"], "message"), "the device's reply cannot be read: success is not a boolean");
    assert_eq!(rig.world.load.commands, 0);
    rig.publish("properties/read/reply", r#"{"messageId":"m1"}"#, Qos::AtMostOnce, 0);
    assert_eq!(codes(&rig).len(), 1, "one command has one outcome");
}
