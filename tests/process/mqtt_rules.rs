//! Packets of clients, as the bridge answers them.

use crate::Stage;
use crate::support::mqtt_rows::{Moment, Row, rows};
use crate::support::packet;
use crate::support::wire::Incoming;
use crate::support::{Connect, Version, Wire};

/// A bridge lets one device connect so many times at once, and then once a second.
const ROWS_PER_BRIDGE: usize = 50;

/// Answer of the bridge, and whether it closed the connection then: a PINGREQ is answered, or the connection is closed.
fn answered(wire: &mut Wire) -> (Vec<u8>, bool) {
    wire.send_regardless(&packet::PINGREQ);
    let mut bytes = Vec::new();
    loop {
        match wire.next() {
            Incoming::Closed => return (bytes, true),
            Incoming::Packet(packet) if packet.header == 0xD0 => return (bytes, false),
            Incoming::Packet(packet) => bytes.extend(packet::packet(packet.header, &packet.body)),
        }
    }
}

/// Sends the bytes of a row and says what came of it.
fn play(stage: &Stage, row: &Row) -> (Vec<u8>, bool) {
    let mut wire = match row.moment {
        Moment::First => Wire::open(stage.bridge.mqtt()),
        Moment::Later => {
            let version = if row.is_3_1 { Version::V31 } else { Version::V311 };
            Wire::connect_as(stage.bridge.mqtt(), &Connect::of(&stage.device1).version(version))
        }
    };
    let credentials = stage.device1.credentials();
    wire.send(&row.bytes(&credentials.username, &credentials.password));
    // The answers to a PINGREQ of the row, and to a PUBLISH that the queue has yet to store.
    let mut bytes = Vec::new();
    if !row.answer.is_closed && !row.answer.bytes.is_empty() {
        while bytes.len() < row.answer.bytes.len() {
            match wire.next() {
                Incoming::Packet(packet) => bytes.extend(packet::packet(packet.header, &packet.body)),
                Incoming::Closed => return (bytes, true),
            }
        }
    }
    let (more, is_closed) = answered(&mut wire);
    bytes.extend(more);
    if !is_closed {
        // The next row is no takeover.
        wire.send(&packet::DISCONNECT);
        wire.wait_closed();
    }
    (bytes, is_closed)
}

#[test]
fn every_row_of_the_table_is_answered_as_the_specification_of_its_version_says() {
    let mut wrong = Vec::new();
    for rows in rows().chunks(ROWS_PER_BRIDGE) {
        let stage = Stage::new();
        for row in rows {
            let (bytes, is_closed) = play(&stage, row);
            if bytes != row.answer.bytes || is_closed != row.answer.is_closed {
                wrong.push(format!("{}: {bytes:02x?}, closed: {is_closed}", row.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
