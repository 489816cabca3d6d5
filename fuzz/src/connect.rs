//! Bytes of a client as a CONNECT, judged as the first packet of a connection is.

use jetlinks_bridge::codec::mqtt::{Packet, Version, decode, frame};
use jetlinks_bridge::protocol::auth::{Expected, TIMESTAMP_WINDOW_MS, sign, verify};
use jetlinks_bridge::protocol::id::DeviceId;

/// The bridge's clock; credentials of the seeds are of that time.
pub const NOW_MS: u64 = 1_600_000_000_000;

/// Registry data of every device.
pub const EXPECTED: Expected<'static> = Expected { secure_id: "test", secure_key: "testtesttesttest", enabled: true };

/// Whoever is let in has said the secure id, the time and a signature; a disabled or unknown device never is, nor one without a
/// secret.
pub fn check(data: &[u8]) {
    let Ok(Some(found)) = frame(data) else { return };
    let Some(whole) = data.get(..found.total_bytes()) else { return };
    let packet = decode(Version::V311, found.first_byte, &whole[found.header_bytes..]);
    let Ok(Packet::Connect(connect)) = packet else { return };
    let (name, password) = (connect.credentials.username, connect.credentials.password);
    let disabled = Expected { enabled: false, ..EXPECTED };
    let keyless = Expected { secure_key: "", ..EXPECTED };
    for other in [None, Some(&disabled), Some(&keyless)] {
        assert!(verify(name, password, other, NOW_MS).is_err(), "let in without a secret");
    }
    if verify(name, password, Some(&EXPECTED), NOW_MS).is_ok() {
        let name = name.expect("a user name");
        let (secure_id, timestamp) = name.split_once('|').expect("a user name of two parts");
        let timestamp: u64 = timestamp.parse().expect("digits");
        assert_eq!(secure_id, EXPECTED.secure_id);
        assert!(timestamp.abs_diff(NOW_MS) <= TIMESTAMP_WINDOW_MS);
        let signature = sign(name, EXPECTED.secure_key);
        assert!(password.is_some_and(|password| password.eq_ignore_ascii_case(&signature)));
    }
    if let Ok(id) = DeviceId::new(connect.client_id) {
        assert!(!id.as_str().contains(['/', '+', '#', '\0']));
    }
}
