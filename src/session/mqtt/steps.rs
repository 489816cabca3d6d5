//! Steps that a session tells those who follow its device.

use super::Ending;
use super::fake::Rig;
use crate::codec::mqtt::{Packet, Qos};
use crate::protocol::command::Command;
use crate::protocol::downlink::Ticket;

const READ: &str = r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","messageId":"m1"}"#;

fn run(rig: &mut Rig) {
    rig.report(1, Qos::AtLeastOnce);
    rig.publish("properties/report", "{", Qos::AtMostOnce, 0);
    rig.publish("child/child1/properties/report", r#"{"properties":{"t":1}}"#, Qos::ExactlyOnce, 2);
    rig.store_all();
    let command = Command::from_json(READ.as_bytes());
    rig.act(|session, ctx| session.command(Some(Ticket(1)), command, ctx));
    rig.publish("properties/read/reply", r#"{"messageId":"m1"}"#, Qos::AtMostOnce, 0);
    rig.act(|session, ctx| session.packet(Packet::Disconnect, ctx));
}

#[test]
fn whoever_follows_sees_each_step_in_order_and_where_nobody_does_there_is_none() {
    let mut rig = Rig::new();
    assert_eq!(rig.steps(), ["device1 Connect", "device1 Envelope"]);
    rig.store_all();
    assert_eq!(rig.steps(), ["device1 Stored"]);
    run(&mut rig);
    let steps = [
        ["device1 Publish", "device1 Envelope"],
        ["device1 Publish", "device1 Envelope"],
        ["child1 Publish", "child1 Envelope"],
        ["device1 Stored", "device1 Stored"],
        ["device1 Stored", "device1 Command"],
        ["device1 Send", "device1 Publish"],
        ["device1 Outcome", "device1 Envelope"],
        ["device1 Disconnect", "device1 Envelope"],
    ];
    assert_eq!(rig.steps(), steps.concat());
    let mut rig = Rig::settled();
    rig.steps();
    rig.world.is_followed = false;
    run(&mut rig);
    rig.act(|session, ctx| session.end(Ending::KeepAlive, ctx));
    assert!(rig.steps().is_empty());
}
