//! Gateways and the devices that they speak for.

use serde_json::{Value, json};

use crate::support::packet;
use crate::support::{Bridge, Registration, Registry, Settings, Wire};

/// A bridge that knows gw1 with child1 bound to it, gw2 with child2 bound to it, and device1 that is its own.
fn start() -> (Bridge, Registration, Registry) {
    let gw1 = Registration::new("gw1");
    let devices = [
        gw1.clone(),
        Registration::new("gw2"),
        Registration::new("device1"),
        Registration { product: "product2".to_owned(), ..Registration::child("child1", "gw1") },
        Registration::child("child2", "gw2"),
    ];
    let registry = Registry::new(&devices);
    (Bridge::start(&Settings::stdio(&registry)), gw1, registry)
}

/// Connects gw1 and takes its `online` and that of child1 off stdout.
fn connect(bridge: &mut Bridge, gateway: &Registration) -> Wire {
    let wire = Wire::connect(bridge.mqtt(), gateway);
    bridge.expect("device.online", "gw1");
    let child = bridge.expect("device.online", "child1");
    assert_eq!(address(&child), json!(["product2", "child1", "gw1", "bridge"]), "{child}");
    wire
}

fn address(envelope: &Value) -> Value {
    json!([envelope["productid"], envelope["deviceid"], envelope["gatewayid"], envelope["origin"]])
}

#[test]
fn a_message_of_a_child_is_about_the_child_and_names_its_gateway() {
    let (mut bridge, gateway, _registry) = start();
    let mut wire = connect(&mut bridge, &gateway);
    for prefix in ["child", "child-reply"] {
        wire.publish(&gateway.topic(&format!("{prefix}/child1/properties/report")), r#"{"properties":{"t":1}}"#, 0, 0);
        let envelope = bridge.expect("device.properties.report", "child1");
        assert_eq!(address(&envelope), json!(["product2", "child1", "gw1", "device"]));
        assert_eq!(envelope["source"], "/product1/gw1/child/child1");
        assert_eq!(envelope["data"]["deviceId"], "child1");
    }
}

#[test]
fn a_child_that_the_registry_does_not_know_passes_so_that_the_platform_can_register_it() {
    let (mut bridge, gateway, _registry) = start();
    let mut wire = connect(&mut bridge, &gateway);
    let body = r#"{"headers":{"productId":"product9","deviceName":"n","configuration":{}}}"#;
    wire.publish(&gateway.topic("child/child9/register"), body, 0, 0);
    let envelope = bridge.expect("device.register", "child9");
    assert_eq!(envelope["gatewayid"], "gw1");
    assert_eq!(envelope["data"]["headers"]["productId"], "product9");
}

#[test]
fn a_child_of_another_gateway_or_a_device_of_its_own_is_rejected_as_foreign() {
    let (mut bridge, gateway, _registry) = start();
    let mut wire = connect(&mut bridge, &gateway);
    for (id, child) in [(1, "child2"), (2, "device1"), (3, "gw2")] {
        let topic = gateway.topic(&format!("child/{child}/properties/report"));
        wire.publish_acknowledged(&topic, r#"{"properties":{"t":1}}"#, id);
        let envelope = bridge.next_envelope();
        assert_eq!(envelope["type"], "org.jetlinks.bridge.rejected", "{envelope}");
        assert_eq!(envelope["data"]["reason"], "foreign_child", "{envelope}");
    }
}

#[test]
fn bound_children_go_offline_with_their_gateway() {
    let (mut bridge, gateway, _registry) = start();
    let mut wire = connect(&mut bridge, &gateway);
    wire.send(&packet::DISCONNECT);
    wire.wait_closed();
    let mut gone = [bridge.next_envelope(), bridge.next_envelope()].map(|envelope| {
        assert_eq!(envelope["type"], "org.jetlinks.device.offline", "{envelope}");
        envelope["deviceid"].as_str().unwrap().to_owned()
    });
    gone.sort();
    assert_eq!(gone, ["child1", "gw1"]);
}

#[test]
fn a_child_comes_and_goes_by_its_gateways_word() {
    let (mut bridge, gateway, _registry) = start();
    let mut wire = connect(&mut bridge, &gateway);
    for (suffix, kind) in [
        ("disconnect", "device.offline"),
        ("connected", "device.online"),
        ("disconnected", "device.offline"),
        ("online", "device.online"),
        ("offline", "device.offline"),
    ] {
        wire.publish(&gateway.topic(&format!("child/child1/{suffix}")), "{}", 0, 0);
        let envelope = bridge.expect(kind, "child1");
        assert_eq!(envelope["origin"], "device", "{suffix}");
    }
}

#[test]
fn a_command_for_a_child_goes_to_its_gateway_and_its_reply_comes_back() {
    let (mut bridge, gateway, _registry) = start();
    let mut wire = connect(&mut bridge, &gateway);
    for (message_id, child) in [("m1", "child1"), ("m2", "child9")] {
        bridge.type_line(&format!(
            r#"{{"messageType":"READ_PROPERTY","messageId":"{message_id}","productId":"product1","gatewayId":"gw1","deviceId":"{child}","properties":["sn"]}}"#
        ));
        let command = wire.next_publish();
        assert_eq!(command.topic, format!("/product1/gw1/child/{child}/properties/read"));
        assert_eq!(command.json()["deviceId"], child);
        wire.reply(&command, r#""properties":{"sn":1}"#);
        let outcome = bridge.expect("device.properties.read.reply", child);
        assert_eq!(outcome["correlationid"], message_id);
        assert_eq!(outcome["gatewayid"], "gw1");
    }
}
