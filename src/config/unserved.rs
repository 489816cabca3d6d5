//! Settings that are understood and not yet served, so that nobody believes in a listener that is not there.
//!
//! Whoever builds one of these takes its line away.

use super::mistake::Problem;
use super::reader::Reader;

/// A key, the value that is not served (`None`: any but "" ), and what to say.
const UNSERVED: &[(&str, Option<&str>, &str)] = &[
    ("mqtt.tls.listen", None, "MQTT over TLS is not served by this version; let a proxy end TLS"),
    ("mqtt.websocket.listen", None, "MQTT over WebSocket is not served by this version; leave it out"),
    ("mqtt.websocket_tls.listen", None, "MQTT over WebSocket is not served by this version; leave it out"),
];

/// Adds a mistake for each such key that is set.
pub(super) fn check(r: &mut Reader<'_>) {
    for (key, value, reason) in UNSERVED {
        let is_meant = match value {
            Some(value) => r.is_set_to(key, value),
            None => r.is_set_to_something(key),
        };
        if is_meant {
            r.mistake(key, Problem::NotServed { reason: (*reason).to_owned() });
        }
    }
}

/// Whether this version does something with any value of the key.
pub(super) fn is_served(key: &str) -> bool {
    !UNSERVED.iter().any(|(other, value, _)| *other == key && value.is_none())
}
