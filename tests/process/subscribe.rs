//! SUBSCRIBE, UNSUBSCRIBE and PINGREQ.

use crate::Stage;
use crate::support::packet::{self, Packet};
use crate::support::{Connect, Version, Wire};

const FOREIGN: [&str; 5] =
    ["#", "/product1/device2/#", "/+/device1/#", "/product1/+/properties/read", "/product2/device1/x"];

fn suback(id: u16, codes: &[u8]) -> Packet {
    Packet { header: 0x90, body: [&id.to_be_bytes(), codes].concat() }
}

#[test]
fn own_filters_are_granted_at_most_qos_1() {
    for version in Version::ALL {
        let stage = Stage::new();
        let mut wire = Wire::connect_as(stage.bridge.mqtt(), &Connect::of(&stage.device1).version(version));
        let filters =
            [("/product1/device1/#", 0), ("/product1/device1/properties/read", 1), ("/product1/device1/+/invoke", 2)];
        wire.send(&packet::subscribe(3, &filters));
        assert_eq!(wire.next_packet(), suback(3, &[0, 1, 1]), "{version:?}");
    }
}

#[test]
fn foreign_filters_fail_in_3_1_1_and_are_granted_but_never_served_in_3_1() {
    for (version, code) in [(Version::V311, 0x80), (Version::V31, 0)] {
        let mut stage = Stage::new();
        let device2 = stage.device2.clone();
        let mut listener = Wire::connect_as(stage.bridge.mqtt(), &Connect::of(&stage.device1).version(version));
        stage.bridge.expect("device.online", "device1");
        let filters: Vec<(&str, u8)> = FOREIGN.iter().map(|filter| (*filter, 0)).collect();
        listener.send(&packet::subscribe(3, &filters));
        assert_eq!(listener.next_packet(), suback(3, &[code; FOREIGN.len()]), "{version:?}");

        // What device2 says and what is said to it stays with it.
        let mut wire = stage.connect(&device2);
        wire.publish_acknowledged(&device2.topic("properties/report"), r#"{"properties":{"a":1}}"#, 1);
        stage.bridge.type_line(
            r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device2","properties":["a"],"headers":{"sendAndForget":true}}"#,
        );
        assert_eq!(wire.next_publish().topic, "/product1/device2/properties/read");
        listener.send(&packet::PINGREQ);
        assert_eq!(listener.next_packet(), Packet { header: 0xD0, body: vec![] }, "{version:?}");
    }
}

#[test]
fn one_bad_filter_leaves_the_good_ones_beside_it_alone() {
    let stage = Stage::new();
    let mut wire = Wire::connect(stage.bridge.mqtt(), &stage.device1);
    wire.send(&packet::subscribe(4, &[("/product1/device2/#", 1), ("/product1/device1/#", 1)]));
    assert_eq!(wire.next_packet(), suback(4, &[0x80, 1]));
}

#[test]
fn all_filters_of_one_subscribe_behind_the_64th_are_refused() {
    let stage = Stage::new();
    let mut wire = Wire::connect(stage.bridge.mqtt(), &stage.device1);
    let filters = [&[("#", 1); 63][..], &[("/product1/device1/#", 1); 3]].concat();
    wire.send(&packet::subscribe(4, &filters));
    let codes = [&[0x80; 63][..], &[1, 0x80, 0x80]].concat();
    assert_eq!(wire.next_packet(), suback(4, &codes));
}

#[test]
fn an_unsubscribe_is_acknowledged_whatever_it_names() {
    let stage = Stage::new();
    let mut wire = Wire::connect(stage.bridge.mqtt(), &stage.device1);
    wire.send(&packet::unsubscribe(5, &["/product1/device1/#", "/product1/device2/#"]));
    assert_eq!(wire.next_packet(), Packet::answer(0xB0, 5));
}

#[test]
fn a_filter_without_its_first_slash_matches_no_command_and_is_not_granted_as_if_it_did() {
    for (version, code) in [(Version::V311, 0x80), (Version::V31, 1)] {
        let mut stage = Stage::new();
        let mut wire = Wire::connect_as(stage.bridge.mqtt(), &Connect::of(&stage.device1).version(version));
        wire.send(&packet::subscribe(3, &[("product1/device1/#", 1)]));
        assert_eq!(wire.next_packet(), suback(3, &[code]), "{version:?}");
        stage.bridge.type_line(
            r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","properties":["a"],"headers":{"sendAndForget":true}}"#,
        );
        // As without any subscription.
        let command = wire.next_publish();
        assert_eq!((command.topic.as_str(), command.qos), ("/product1/device1/properties/read", 0), "{version:?}");
    }
}
