//! Devices of the file of the registry that work otherwise than somebody may expect.

use std::net::SocketAddr;

use crate::config::Config;
use crate::protocol::cipher::KEY_BYTES;
use crate::registry::{Device, FileRegistry, Lookup};

/// Devices that are named in one warning.
const NAMED_MAX: usize = 5;

/// Key of the devices in the samples, which everybody knows.
const SAMPLE_KEY: &str = "testtesttesttest";

/// Adds what is odd.
pub(super) fn warn(config: &Config, registry: &FileRegistry, warnings: &mut Vec<String>) {
    let odd = registry.count(Device::cannot_encrypt);
    if odd > 0 && !config.coap.listen.is_empty() {
        let who = if odd == 1 {
            "1 device has a key that is not".to_owned()
        } else {
            format!("{odd} devices have keys that are not")
        };
        warnings.push(format!(
            "coap.listen: {who} {KEY_BYTES} bytes: CoAP cannot be encrypted with it (MQTT and DTLS take it)"
        ));
    }
    let mut name = |key: &str, is_such: &dyn Fn(&Device) -> bool, text: &str| {
        let ids = registry.ids(is_such);
        if let Some(shown) = named(&ids) {
            warnings.push(format!("{key}: {text}: {shown}"));
        }
    };
    let is_unknown = |id: &str| registry.device(id) == Lookup::Unknown;
    name(
        "registry.file.path",
        &|device| device.gateway.as_ref().is_some_and(|gateway| is_unknown(gateway.as_str())),
        "devices whose gateway is not in the file",
    );
    name(
        "registry.product_secrets",
        &|device| device.credentials.is_none() && device.gateway.is_none(),
        "devices without a secret of their own, which cannot connect while it is false",
    );
    if let Some(listener) = open_listener(config) {
        name(
            listener,
            &|device| device.enabled && device.expected().secure_key == SAMPLE_KEY,
            "not on loopback, and everybody knows the key of these devices out of the samples",
        );
    }
}

/// The ids, as many as one line bears; `None` of none.
fn named(ids: &[String]) -> Option<String> {
    let rest = ids.len().saturating_sub(NAMED_MAX);
    let shown = ids.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match (ids.is_empty(), rest) {
        (true, _) => None,
        (false, 0) => Some(shown),
        (false, rest) => Some(format!("{shown} and {rest} more")),
    }
}

/// Key of a listener for devices that others than this machine reach.
fn open_listener(config: &Config) -> Option<&'static str> {
    let mqtt = &config.mqtt;
    let listeners = [
        ("mqtt.listen", &mqtt.listen),
        ("mqtt.tls.listen", &mqtt.tls.listen),
        ("mqtt.websocket.listen", &mqtt.websocket.listen),
        ("mqtt.websocket_tls.listen", &mqtt.websocket_tls.listen),
        ("coap.listen", &config.coap.listen),
        ("dtls.listen", &config.dtls.listen),
    ];
    let is_open = |address: &SocketAddr| !address.ip().is_loopback();
    listeners.into_iter().find(|(_, listen)| listen.iter().any(is_open)).map(|(key, _)| key)
}
