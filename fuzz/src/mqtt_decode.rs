//! Bytes of a peer as MQTT packets.

use jetlinks_bridge::codec::mqtt::{Frame, Packet, Qos, Version, decode, encode, frame, publish_head};

/// Takes packets off the front as long as there are whole ones, and holds each to what was read of it.
pub fn check(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(found)) = frame(rest) {
        assert!((2..=5).contains(&found.header_bytes));
        shorter_reads_agree(rest, found);
        let Some(whole) = rest.get(..found.total_bytes()) else { return };
        packet(found.first_byte, &whole[found.header_bytes..], whole);
        rest = &rest[found.total_bytes()..];
    }
}

/// However a packet is cut by reads, its extent is found as soon as it can be, and never another one.
fn shorter_reads_agree(bytes: &[u8], found: Frame) {
    for end in 0..=found.header_bytes {
        let expected = (end == found.header_bytes).then_some(found);
        assert_eq!(frame(&bytes[..end]), Ok(expected));
    }
}

fn packet(first_byte: u8, body: &[u8], whole: &[u8]) {
    let older = decode(Version::V31, first_byte, body);
    match older {
        Ok(Packet::Subscribe(_, filters)) => assert_ne!(filters.count(), 0, "a filter was lost"),
        Ok(Packet::Unsubscribe(_, filters)) => assert_ne!(filters.count(), 0, "a filter was lost"),
        _ => {}
    }
    let Ok(packet) = decode(Version::V311, first_byte, body) else { return };
    assert_eq!(older, Ok(packet), "MQTT 3.1 allows all that 3.1.1 does");
    let mut again = Vec::new();
    match packet {
        Packet::Connect(connect) => {
            // Reserved bits of MQTT 3.1 are not kept, so the packet may differ and its meaning may not.
            encode::connect(&mut again, &connect);
            let found = frame(&again).ok().flatten().expect("an encoded packet has an extent");
            assert_eq!(decode(Version::V311, found.first_byte, &again[found.header_bytes..]), Ok(packet));
            return;
        }
        Packet::Publish(publish) => {
            let (head, payload) = publish_head(Version::V311, first_byte, body).expect("a PUBLISH has a head");
            assert_eq!((head, payload), (publish.head, publish.payload));
            assert_eq!(head.packet_id.is_some(), head.qos != Qos::AtMostOnce);
            encode::publish(&mut again, &publish);
        }
        Packet::Subscribe(id, filters) => {
            let filters: Vec<_> = filters.collect();
            assert!(!filters.is_empty());
            encode::subscribe(&mut again, id, &filters);
        }
        Packet::Unsubscribe(_, filters) => {
            let filter_bytes: usize = filters.map(|filter| 2 + filter.len()).sum();
            assert_eq!(2 + filter_bytes, body.len(), "a filter was lost");
            return;
        }
        Packet::Suback(id, codes) => encode::suback(&mut again, id, codes),
        Packet::Puback(id) => again.extend(encode::puback(id)),
        Packet::Pubrec(id) => again.extend(encode::pubrec(id)),
        Packet::Pubrel(id) => again.extend(encode::pubrel(id)),
        Packet::Pubcomp(id) => again.extend(encode::pubcomp(id)),
        Packet::Unsuback(id) => again.extend(encode::unsuback(id)),
        Packet::Pingreq => again.extend(encode::PINGREQ),
        Packet::Pingresp => again.extend(encode::PINGRESP),
        Packet::Disconnect => again.extend(encode::DISCONNECT),
        Packet::ConnectOfOtherVersion | Packet::Connack(..) => return,
    }
    let (again_body, body_starts_at) = (&again[again.len() - body.len()..], whole.len() - body.len());
    assert_eq!(again_body, &whole[body_starts_at..], "what was read is not what is written");
    // Overlong lengths are not written.
    assert_eq!(again[0], first_byte);
}
