//! CONNECT against each registry: accepted and refused devices.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::wire::Incoming;
use crate::support::{Bridge, Connect, Packet, Registration, Wire, eventually, packet};

/// How long a change of a registry may take that tells its changes.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

/// How long anything may take that takes seconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// CONNACK codes.
pub(crate) const ACCEPTED: u8 = 0;
/// Come later.
pub(crate) const AWAY: u8 = 3;
/// Unknown, disabled or wrong.
pub(crate) const REFUSED: u8 = 4;

/// The code that a CONNECT of this device gets at this moment; the connection ends with the call.
pub(crate) fn knock(bridge: &Bridge, device: &Registration) -> u8 {
    knock_at(bridge.mqtt(), device)
}

/// As [`knock`], where the bridge cannot be shared.
pub(crate) fn knock_at(address: SocketAddr, device: &Registration) -> u8 {
    let mut wire = Wire::open(address);
    wire.send(&Connect::of(device).bytes());
    match wire.next() {
        Incoming::Packet(Packet { header: 0x20, body }) => body[1],
        other => panic!("no CONNACK but {other:?}"),
    }
}

/// Asks until the device gets this code.
pub(crate) fn knock_until(bridge: &Bridge, device: &Registration, code: u8) {
    let what = format!("{} gets CONNACK {code}", device.id);
    eventually(&what, PATIENCE, || (knock(bridge, device) == code).then_some(()));
}

/// Whether the bridge serves this connection: it answers a PINGREQ.
pub(crate) fn is_served(wire: &mut Wire) -> bool {
    wire.send_regardless(&packet::PINGREQ);
    matches!(wire.next(), Incoming::Packet(Packet { header: 0xD0, .. }))
}

/// The device with another secret.
pub(crate) fn rekeyed(device: &Registration) -> Registration {
    Registration { secure_key: "another-secret".to_owned(), ..device.clone() }
}

/// The device's record as JSON.
pub(crate) fn record(device: &Registration) -> serde_json::Value {
    let mut record = serde_json::json!({"id": device.id, "product": device.product, "enabled": device.enabled});
    match &device.gateway {
        Some(gateway) => record["gateway"] = gateway.as_str().into(),
        None => {
            record["secureId"] = device.secure_id.as_str().into();
            record["secureKey"] = device.secure_key.as_str().into();
        }
    }
    record
}
