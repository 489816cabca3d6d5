//! Streams of NATS that take nothing, or stop to, and what the bridge says of itself meanwhile.

use std::time::Duration;

use crate::kafka_security::code_of_connect;
use crate::support::bridge::{run, wait_for_log};
use crate::support::{Bridge, Leaf, Nats, Registration, Registry, Settings, Wire, eventually};

const PATIENCE: Duration = Duration::from_secs(60);
const REPORT: &str = r#"{"properties":{"a":1}}"#;

/// Runs the `nats` command line to its end.
fn nats(server: &Nats, arguments: &[&str]) {
    let output = server.run_cli(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

fn wait_for_queue(bridge: &Bridge, state: &str) {
    eventually(&format!("the queue is {state}"), PATIENCE, || (bridge.readiness().1["queue"] == state).then_some(()));
}

/// Looks until the queue has stalled twice more: nobody may hear that it takes records.
fn assert_away_over_two_stalls(bridge: &Bridge, device: &Registration) {
    wait_for_queue(bridge, "away");
    let stalls = || bridge.metric("jetlinks_bridge_queue_stalls_total", &[]);
    let before = stalls();
    eventually("the queue has stalled twice", PATIENCE, || {
        assert_eq!(bridge.readiness().1["queue"], "away");
        assert_eq!(code_of_connect(bridge, device), 3);
        (stalls() >= before + 2.0).then_some(())
    });
}

#[test]
fn a_stream_that_takes_nothing_is_named_with_what_to_do_and_lets_no_device_in() {
    let add = |server: &Nats, arguments: &[&str]| {
        nats(server, &[&["stream", "add", "JETLINKS_DEVICE"], arguments, &["--defaults"]].concat());
    };
    let (silent, mirror, sealed) = (Nats::start(), Nats::start(), Nats::start());
    add(&silent, &["--subjects", "jetlinks.>", "--no-ack"]);
    nats(&mirror, &["stream", "add", "ORIGIN", "--subjects", "jetlinks.>", "--defaults"]);
    add(&mirror, &["--mirror", "ORIGIN"]);
    add(&sealed, &["--subjects", "jetlinks.>"]);
    nats(&sealed, &["stream", "seal", "JETLINKS_DEVICE", "-f"]);
    let (registry, devices) = Registry::numbered(1);
    let bridges = [(&silent, "no_ack"), (&mirror, "name ORIGIN, which it copies"), (&sealed, "sealed: name another")]
        .map(|(server, cause)| (Bridge::start_unready(&Settings::nats(&registry, server)), cause));
    for (bridge, cause) in &bridges {
        wait_for_log(bridge, &["ERROR", "the stream cannot be used", cause]);
        let (status, parts) = bridge.readiness();
        assert_eq!((status, &parts["queue"]), (503, &"starting".into()), "{cause}");
        assert_eq!(code_of_connect(bridge, &devices[0]), 3, "{cause}");
    }
    nats(&silent, &["stream", "edit", "JETLINKS_DEVICE", "--ack", "-f"]);
    let (bridge, _) = &bridges[0];
    wait_for_queue(bridge, "ok");
    assert_eq!(code_of_connect(bridge, &devices[0]), 0);
}

#[test]
fn a_stream_that_stops_to_acknowledge_is_named_and_the_queue_is_away_until_it_has_stored_a_record() {
    let server = Nats::start();
    let (registry, devices) = Registry::numbered(2);
    let bridge = Bridge::start(&Settings::nats(&registry, &server));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    wire.publish_acknowledged(&devices[0].topic("properties/report"), REPORT, 1);
    nats(&server, &["stream", "edit", "JETLINKS_DEVICE", "--no-ack", "-f"]);
    wire.publish(&devices[0].topic("properties/report"), REPORT, 1, 2);
    wait_for_log(&bridge, &["ERROR", "the stream cannot be used", "no_ack"]);
    assert_eq!((bridge.readiness().1["queue"].as_str(), code_of_connect(&bridge, &devices[1])), (Some("away"), 3));
    nats(&server, &["stream", "edit", "JETLINKS_DEVICE", "--ack", "-f"]);
    wait_for_queue(&bridge, "ok");
    assert_eq!(code_of_connect(&bridge, &devices[1]), 0);
}

#[test]
fn a_queue_that_takes_records_and_stores_none_is_away_all_the_time_and_an_idle_bridge_finds_it_again() {
    let configuration = |denied: &str| {
        format!(
            "authorization {{ users: [ {{ user: bridge, password: secret, permissions: {{
                publish: {{ allow: \">\", deny: [{denied}] }}, subscribe: \">\" }} }} ] }}\n"
        )
    };
    let server = Nats::configured(&configuration(""));
    let (registry, devices) = Registry::numbered(2);
    let servers = format!("[\"nats://bridge:secret@{}\"]", server.address());
    let bridge = Bridge::start(&Settings::nats(&registry, &server).toml("nats.servers", &servers));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    wire.publish_acknowledged(&devices[0].topic("properties/report"), REPORT, 1);

    server.reload(&configuration("\"jetlinks.>\""));
    wire.publish(&devices[0].topic("properties/report"), REPORT, 1, 2);
    wire.wait_closed();
    assert_away_over_two_stalls(&bridge, &devices[1]);

    server.reload(&configuration(""));
    eventually("nobody is connected", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_sessions", &[]) == 0.0).then_some(())
    });
    wait_for_queue(&bridge, "ok");
    assert_eq!(code_of_connect(&bridge, &devices[1]), 0);
}

#[test]
fn a_bridge_at_a_leaf_without_jetstream_uses_stream_and_registry_of_the_hub_by_its_domain() {
    let Leaf { hub, leaf } = Leaf::without_jetstream();
    let (nobody, _) = Registry::numbered(0);
    let settings = Settings::nats(&nobody, &leaf).text("registry.source", "nats");
    let lost = Bridge::start_unready(&settings);
    wait_for_log(&lost, &["WARN", "waiting for the stream", "JetStream does not answer"]);
    drop(lost);

    let settings = settings.text("nats.domain", "hub");
    let bridge = Bridge::start(&settings);
    let device = Registration::new("device1");
    let config = bridge.config().display().to_string();
    let Registration { product, id, secure_id, secure_key, .. } = &device;
    let named = ["--id", id, "--product", product, "--secure-id", secure_id, "--secure-key-stdin", "--config", &config];
    let put = run(&[&["devices", "put"], &named[..]].concat(), secure_key);
    assert_eq!(put.code, 0, "{put:?}");
    eventually("the device is known", PATIENCE, || (code_of_connect(&bridge, &device) == 0).then_some(()));
    let mut wire = Wire::connect(bridge.mqtt(), &device);
    wire.publish_acknowledged(&device.topic("properties/report"), REPORT, 1);
    let subject = "jetlinks.device.product1.device1.properties.report";
    nats(&hub, &["stream", "get", "JETLINKS_DEVICE", "--last-for", subject]);
}

#[test]
fn a_stream_whose_retention_keeps_nothing_is_warned_of() {
    let server = Nats::start();
    let subjects = ["--subjects", "jetlinks.>", "--retention", "interest", "--defaults"];
    nats(&server, &[&["stream", "add", "JETLINKS_DEVICE"], &subjects[..]].concat());
    let (registry, _) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::nats(&registry, &server));
    wait_for_log(&bridge, &["WARN", "retention is interest, and it has no consumer"]);
}
