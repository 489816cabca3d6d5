//! Passwords, tokens and keys in the log: not at any level, of any library.

use std::time::Duration;

use crate::kafka_security::code_of_connect;
use crate::support::bridge::run;
use crate::support::{Bridge, Nats, Registry, Settings, Wire, eventually, http};

const PATIENCE: Duration = Duration::from_secs(60);

/// Every line of the bridge and of the libraries that are given a secret, or write what is given one to the network.
pub(crate) const EVERYTHING: &str =
    "trace,async_nats=trace,rdkafka=trace,librdkafka=trace,rustls=trace,hyper=trace,tokio=trace,mio=trace";

/// Waits until the log has a line of that library below info.
pub(crate) fn wait_for_trace(bridge: &Bridge, library: &str) {
    eventually("the library says what it does", PATIENCE, || {
        let is_meant = |line: &str| line.contains(library) && (line.contains("TRACE") || line.contains("DEBUG"));
        bridge.log().lines().any(is_meant).then_some(())
    });
}

/// Lines of the log that hold this text.
pub(crate) fn lines_with(bridge: &Bridge, secret: &str) -> Vec<String> {
    bridge.log().lines().filter(|line| line.contains(secret)).map(str::to_owned).collect()
}

/// Devices in NATS, and a bridge that logs everything, from the start or since an operator asked for it, over one outage
/// of NATS.
fn follow(mut nats: Nats, user: &str, secret: &str, level_at_start: &str) {
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::nats(&registry, &nats)
        .toml("nats.servers", &format!("[\"nats://{user}@{}\"]", nats.address()))
        .text("registry.source", "nats")
        .text("log.level", level_at_start);
    let bridge = Bridge::start(&settings);
    let (config, file) = (bridge.config().display().to_string(), registry.path().display().to_string());
    let imported = run(&["devices", "import", &file, "--config", &config], "");
    assert_eq!(imported.code, 0, "{imported:?}");
    let told = http::put(bridge.admin(), "/api/log", &format!(r#"{{"level":"{EVERYTHING}"}}"#)).unwrap();
    assert_eq!(told.status, 200, "{told:?}");
    eventually("the device is known", PATIENCE, || (code_of_connect(&bridge, &devices[0]) == 0).then_some(()));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    wire.publish_acknowledged(&devices[0].topic("tags"), r#"{"tags":{"a":1}}"#, 1);
    nats.restart();
    eventually("NATS is reached again", PATIENCE, || {
        let connected = bridge.log().matches("connected to NATS").count();
        (connected >= 6).then_some(())
    });
    wait_for_trace(&bridge, "async_nats::connector");
    assert_eq!(lines_with(&bridge, secret), [""; 0]);
    assert_eq!(lines_with(&bridge, &devices[0].secure_key), [""; 0]);
}

#[test]
fn the_password_of_nats_is_never_in_the_log() {
    for level in [EVERYTHING, "info,async_nats=debug", "info"] {
        let nats = Nats::start_with(&["--user", "bridge", "--pass", "pass@word-of-nats"]);
        follow(nats, "bridge:pass%40word-of-nats", "word-of-nats", level);
    }
}

#[test]
fn the_token_of_nats_is_never_in_the_log() {
    follow(Nats::start_with(&["--auth", "token-of-nats"]), "token-of-nats", "token-of-nats", EVERYTHING);
}
