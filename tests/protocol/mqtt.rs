//! Packets of clients, as the codec reads them.

use jetlinks_bridge::codec::mqtt::{self, Malformed, Packet, Version};

use crate::mqtt_rows::{Moment, Row, rows};

fn read<'a>(row: &Row, bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
    let version = if row.is_3_1 { Version::V31 } else { Version::V311 };
    let frame = mqtt::frame(bytes)?.expect("a row is a whole packet");
    assert_eq!(frame.total_bytes(), bytes.len(), "{}", row.name);
    let body = &bytes[frame.header_bytes..];
    match row.moment {
        Moment::First => mqtt::decode_connect(frame.first_byte, body),
        Moment::Later => mqtt::decode(version, frame.first_byte, body),
    }
}

#[test]
fn every_row_of_the_table_is_read_as_the_specification_of_its_version_says() {
    let wrong: Vec<String> = rows()
        .into_iter()
        .filter_map(|row| {
            let bytes = row.bytes("test|1600000000000", "13426ba310b035960c32cdd9f7c6aa5c");
            let read = read(&row, &bytes);
            let said = read.map_or_else(|broken| format!("{broken:?}"), |_| "ok".to_owned());
            (said != row.codec).then(|| format!("{}: {said} instead of {}", row.name, row.codec))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_that_can_be_broken_has_a_row() {
    let rows = rows();
    for broken in [
        Malformed::RemainingLength,
        Malformed::PacketType,
        Malformed::Flags,
        Malformed::Body,
        Malformed::Text,
        Malformed::PacketId,
        Malformed::Qos,
        Malformed::Topic,
        Malformed::Filter,
        Malformed::ProtocolName,
    ] {
        for is_3_1 in [true, false] {
            let name = format!("{broken:?}");
            assert!(rows.iter().any(|row| row.codec == name && row.is_3_1 == is_3_1), "{name} of 3.1: {is_3_1}");
        }
    }
}
