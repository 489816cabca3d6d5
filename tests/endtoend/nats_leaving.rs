//! Connections to NATS that the bridge leaves by itself, so that nobody has to restart it.

use std::time::Duration;

use serde_json::json;

use crate::command::obey;
use crate::support::bridge::{run, wait_for_log};
use crate::support::wire::Incoming;
use crate::support::{
    Bridge, Cluster, Connect, Device, Link, Load, Nats, Registration, Registry, Settings, Stopwatch, Wire, eventually,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Longest time without a stored message when one server of three hangs: five seconds until that is noticed, two until
/// the stream is asked for in vain, and until another server is found.
const GAP_MAX: Duration = Duration::from_secs(13);

const REPORT: &str = r#"{"properties":{"a":1}}"#;

/// Lets the server of the uplink stand still under load until the bridge has another one, and wakes it at the worst
/// moment: the other servers still listen to it. How long nothing was stored, and the log of the bridge.
fn hang(settings: impl Fn(Settings) -> Settings) -> (Duration, String) {
    let cluster = Cluster::start();
    let (registry, _) = Registry::numbered(40);
    let bridge = Bridge::start(&settings(Settings::cluster(&registry, &cluster)));
    let mut load = Load::start(bridge.mqtt(), &registry, 40, 10.0);
    let stored = || bridge.metric("jetlinks_bridge_stored_total", &[]);
    eventually("messages are stored", PATIENCE, || (stored() > 1000.0).then_some(()));

    let hung = cluster.member_of_uplink();
    cluster.signal(hung, libc::SIGSTOP);
    let (mut watch, mut last) = (Stopwatch::start(), stored());
    eventually("the uplink has lost its connection", PATIENCE, || {
        if stored() > last {
            (watch, last) = (Stopwatch::start(), stored());
        }
        bridge.log().lines().any(|line| line.contains("lost the connection") && line.contains("uplink")).then_some(())
    });
    eventually("messages are stored again", PATIENCE, || (stored() > last).then_some(()));
    cluster.signal(hung, libc::SIGCONT);
    let gap = watch.elapsed();
    let again = stored();
    eventually("messages go on", PATIENCE, || (stored() > again + 1000.0).then_some(()));
    load.finish();
    load.verify(&bridge.config());
    (gap, bridge.log())
}

#[test]
fn a_server_that_hangs_beside_two_healthy_ones_is_left_and_what_it_says_later_breaks_no_order() {
    let (gap, log) = hang(|settings| settings);
    assert!(log.contains("the bridge left it: JetStream does not answer"), "{log}");
    assert!(gap < GAP_MAX, "nothing was stored for {gap:?}");
}

#[test]
fn a_server_that_is_given_up_by_pings_breaks_no_order_when_it_wakes() {
    let (_, log) = hang(|settings| settings.text("nats.ping_interval", "1s"));
    assert!(log.contains("the server did not answer for"), "{log}");
}

#[test]
fn copies_that_a_hung_server_hands_on_late_are_dropped_by_their_ids_and_the_rest_is_in_order() {
    let cluster = Cluster::start();
    let links = (0..3).map(|number| Link::to(cluster.client(number))).collect::<Vec<_>>();
    let (registry, _) = Registry::numbered(40);
    let urls: Vec<String> = links.iter().map(|link| format!("nats://{}", link.address())).collect();
    let settings = Settings::cluster(&registry, &cluster).toml("nats.servers", &format!("{urls:?}"));
    let bridge = Bridge::start(&settings);
    let mut load = Load::start(bridge.mqtt(), &registry, 40, 10.0);
    let stored = || bridge.metric("jetlinks_bridge_stored_total", &[]);
    eventually("messages are stored", PATIENCE, || (stored() > 1000.0).then_some(()));

    let hung = cluster.member_of_uplink();
    cluster.signal(hung, libc::SIGSTOP);
    eventually("the server has much in its socket", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_inflight_messages", &[]) >= 400.0).then_some(())
    });
    // Not silence, which the bridge would notice: it goes on with another server at once.
    links[hung].cut();
    let before = stored();
    eventually("messages are stored elsewhere", PATIENCE, || (stored() > before + 1000.0).then_some(()));
    cluster.signal(hung, libc::SIGCONT);
    let again = stored();
    eventually("messages go on", PATIENCE, || (stored() > again + 1000.0).then_some(()));
    load.finish();
    // By last copies a third of the messages is out of order.
    let verdict = load.verify_promise(&bridge.config());
    assert!(verdict["duplicates_by_id"].as_u64() > Some(0), "nothing came late: {verdict}");
}

#[test]
fn a_server_that_hangs_and_is_the_only_one_is_not_left_and_costs_no_connection_when_it_wakes_in_time() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::nats(&registry, &nats).text("limits.ack_timeout", "20s"));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    wire.publish_acknowledged(&devices[0].topic("event/e"), REPORT, 1);
    nats.process().signal(libc::SIGSTOP);
    wire.publish(&devices[0].topic("event/e"), REPORT, 1, 2);
    wait_for_log(&bridge, &["WARN", "waiting for the stream", "JetStream does not answer"]);
    nats.process().signal(libc::SIGCONT);
    assert_eq!(wire.next_packet().header, 0x40, "PUBACK");
    assert!(!bridge.log().contains("lost the connection"), "{}", bridge.log());
}

#[test]
fn a_connection_that_the_network_has_forgotten_is_left_for_a_new_one_before_the_pings_fail() {
    let nats = Nats::start();
    let link = Link::to(nats.address());
    let (registry, devices) = Registry::numbered(1);
    let servers = format!("[\"nats://{}\"]", link.address());
    let bridge = Bridge::start(&Settings::nats(&registry, &nats).toml("nats.servers", &servers));
    let topic = devices[0].topic("event/e");
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    wire.publish_acknowledged(&topic, REPORT, 1);
    link.forget();
    wire.publish(&topic, REPORT, 1, 2);
    for role in ["uplink", "commands", "coordination"] {
        let role = format!("role=\"{role}\"");
        wait_for_log(&bridge, &["lost the connection", &role, "did not answer for", "answers a new connection"]);
    }
    let mut wire = eventually("the device is served again", PATIENCE, || try_connect(&bridge, &devices[0]));
    wire.publish_acknowledged(&topic, REPORT, 1);
    assert_eq!(bridge.log().matches("lost the connection").count(), 3, "{}", bridge.log());
}

/// Asks a device for a property with the bridge's own command; its exit code.
fn ask(bridge: &Bridge, device: &Registration) -> i32 {
    let (to, config) = (format!("product1/{}", device.id), bridge.config().display().to_string());
    let arguments = ["send", "--device", &to, "--type", "properties.read", r#"{"properties":["sn"]}"#];
    run(&[&arguments[..], &["--config", &config]].concat(), "").code
}

/// A connection, unless the device is to come later.
fn try_connect(bridge: &Bridge, device: &Registration) -> Option<Wire> {
    let mut wire = Wire::open(bridge.mqtt());
    wire.send(&Connect::of(device).bytes());
    (wire.next_packet().body == [0, 0]).then_some(wire)
}

fn limited(bytes: usize) -> String {
    format!("max_payload: {bytes}\n")
}

#[test]
fn a_limit_that_was_raised_by_reload_counts_for_messages_and_outcomes_without_a_restart() {
    let nats = Nats::configured(&limited(8192));
    let (registry, devices) = Registry::numbered(2);
    let bridge = Bridge::start(&Settings::nats(&registry, &nats).text("limits.packet_bytes", "64KiB"));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    let topic = devices[0].topic("event/e");
    wire.publish_acknowledged(&topic, REPORT, 1);
    nats.reload(&limited(1024 * 1024));
    let body = format!(r#"{{"data":"{}"}}"#, "x".repeat(20_000));
    let last = || {
        let subject = "jetlinks.device.product1.device1.event.e";
        let output = nats.run_cli(&["stream", "get", "JETLINKS_DEVICE", "--last-for", subject]);
        output.stdout.len()
    };
    let mut wire = Some(wire);
    eventually("a message above the former limit is stored", PATIENCE, || {
        let mut open = wire.take().or_else(|| try_connect(&bridge, &devices[0]))?;
        open.publish(&topic, &body, 1, 2);
        // Acknowledged, or closed.
        wire = matches!(open.next(), Incoming::Packet(_)).then_some(open);
        (last() > 20_000).then_some(())
    });
    let _answering = Device::connect(bridge.mqtt(), &devices[1], |_, _| {
        // The library of this device sends 10 KiB at most.
        Some(json!({"success": true, "properties": {"sn": "x".repeat(9_000)}}))
    });
    eventually("an outcome above the former limit reaches its caller", PATIENCE, || {
        (ask(&bridge, &devices[1]) == 0).then_some(())
    });
}

fn permitted(denied: &str) -> String {
    format!(
        "authorization {{ users: [ {{ user: bridge, password: secret, permissions: {{
            publish: \">\", subscribe: {{ allow: \">\", deny: [{denied}] }} }} }} ] }}\n"
    )
}

fn secured(registry: &Registry, nats: &Nats) -> Settings {
    let servers = format!("[\"nats://bridge:secret@{}\"]", nats.address());
    Settings::nats(registry, nats).toml("nats.servers", &servers)
}

#[test]
fn the_right_to_hear_acknowledgements_that_was_taken_and_given_back_brings_the_queue_back() {
    let nats = Nats::configured(&permitted(""));
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&secured(&registry, &nats));
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    wire.publish_acknowledged(&devices[0].topic("event/e"), REPORT, 1);
    nats.reload(&permitted("\"_INBOX.>\""));
    wire.publish(&devices[0].topic("event/e"), REPORT, 1, 2);
    let queue_is = |state: &str| (bridge.readiness().1["queue"] == state).then_some(());
    eventually("the queue is away", PATIENCE, || queue_is("away"));
    wait_for_log(&bridge, &["WARN", "NATS connection trouble", "_INBOX"]);
    // The next connection hears nothing either.
    wait_for_log(&bridge, &["lost the connection", "role=\"uplink\"", "the bridge left it"]);
    eventually("it is refused there, too", PATIENCE, || {
        (bridge.log().matches("role=\"uplink\" error=\"nats: Permissions Violation").count() > 2).then_some(())
    });
    nats.reload(&permitted(""));
    eventually("the queue is back", PATIENCE, || queue_is("ok"));
    Wire::connect(bridge.mqtt(), &devices[0]).publish_acknowledged(&devices[0].topic("event/e"), REPORT, 1);
}

#[test]
fn the_right_to_hear_commands_that_was_taken_and_given_back_reaches_sessions_that_were_there_all_the_time() {
    let nats = Nats::configured(&permitted(""));
    let (registry, devices) = Registry::numbered(3);
    let bridge = Bridge::start(&secured(&registry, &nats));
    let _sessions: Vec<Device> = devices.iter().map(|device| Device::connect(bridge.mqtt(), device, obey)).collect();
    let ask = |device: &Registration| ask(&bridge, device);
    assert!(devices.iter().all(|device| ask(device) == 0));
    let commands_are = |state: &str| {
        eventually(&format!("commands are {state}"), PATIENCE, || {
            (bridge.readiness().1["commands"] == state).then_some(())
        });
    };
    // One by its name, then all.
    for denied in ["\"jetlinks.command.product1.device1.>\"", "\"jetlinks.command.>\""] {
        nats.reload(&permitted(denied));
        let watch = Stopwatch::start();
        commands_are("away");
        let took = watch.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(bridge.metric("jetlinks_bridge_part_up", &["part=\"commands\""]), 0.0);
        assert_eq!(bridge.readiness().0, 200, "an outage does not take every replica out of service");
        eventually("the device is not reached", PATIENCE, || (ask(&devices[0]) == 1).then_some(()));
        let refused = if denied.contains("device1") { 1.0 } else { 3.0 };
        eventually("each refused subscription counts", PATIENCE, || {
            (bridge.metric("jetlinks_bridge_commands_refused_interests", &[]) == refused).then_some(())
        });
        nats.reload(&permitted(""));
        for device in &devices {
            eventually("every device is reached again", PATIENCE, || (ask(device) == 0).then_some(()));
        }
        commands_are("ok");
        assert_eq!(bridge.metric("jetlinks_bridge_commands_refused_interests", &[]), 0.0);
    }
    assert_eq!(bridge.metric("jetlinks_bridge_sessions_closed_total", &[]), 0.0);
    let lost = bridge.log().matches("lost the connection to NATS").count();
    assert_eq!(lost, 0, "{}", bridge.log());
}

#[test]
fn the_right_to_hear_the_registry_that_was_taken_and_given_back_brings_it_back() {
    let nats = Nats::configured(&permitted(""));
    let (nobody, _) = Registry::numbered(0);
    let settings = secured(&nobody, &nats).text("registry.source", "nats").text("uplink.queue", "stdio");
    let bridge = Bridge::start(&settings);
    nats.reload(&permitted("\"_INBOX.>\""));
    wait_for_log(
        &bridge,
        &["lost the connection", "role=\"registry\"", "the bridge left it: JetStream does not answer"],
    );
    assert_eq!(bridge.readiness().1["registry"], "away");
    nats.reload(&permitted(""));
    eventually("the registry is back", PATIENCE, || (bridge.readiness().1["registry"] == "ok").then_some(()));
}

#[test]
fn the_right_to_hear_claims_that_was_taken_and_given_back_lets_replicas_agree_again() {
    let nats = Nats::configured(&permitted(""));
    let (registry, devices) = Registry::numbered(1);
    let replicas = [(); 2].map(|()| Bridge::start(&secured(&registry, &nats)));
    nats.reload(&permitted("\"jetlinks.claim\""));
    for replica in &replicas {
        wait_for_log(replica, &["NATS connection trouble", "role=\"coordination\"", "jetlinks.claim"]);
    }
    nats.reload(&permitted(""));
    eventually("the older session of a device ends on the other replica", PATIENCE, || {
        let [mut older, _newer] = [0, 1].map(|number: usize| Wire::connect(replicas[number].mqtt(), &devices[0]));
        matches!(older.next_within(Duration::from_secs(11)), Some(Incoming::Closed)).then_some(())
    });
    for replica in &replicas {
        wait_for_log(replica, &["INFO", "takes the subscription again", "role=\"coordination\"", "jetlinks.claim"]);
        assert!(!replica.log().contains("lost the connection to NATS"), "{}", replica.log());
    }
}
