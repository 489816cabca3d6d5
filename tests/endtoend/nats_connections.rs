//! Connections to NATS that cannot be made or are lost: each says where it goes and why it is not there.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::bridge::{run, wait_for_log};
use crate::support::{Bridge, Caller, Link, Nats, Registry, Settings, Stopwatch, Wire, eventually, http};

const PATIENCE: Duration = Duration::from_secs(60);

/// A cause is told within this time.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Every connection of a replica that uses NATS for everything.
const ROLES: [&str; 4] = ["uplink", "commands", "coordination", "registry"];

/// Settings with which a bridge opens a connection of each role.
fn everything(registry: &Registry, nats: &Nats) -> Settings {
    Settings::nats(registry, nats).text("registry.source", "nats")
}

/// How often a line with all of these texts was logged.
fn count_of_lines(bridge: &Bridge, texts: &[&str]) -> usize {
    bridge.log().lines().filter(|line| texts.iter().all(|text| line.contains(text))).count()
}

fn wait_for_roles(bridge: &Bridge, texts: &[&str]) {
    for role in ROLES {
        wait_for_log(bridge, &[texts, &[&format!("role=\"{role}\"")]].concat());
    }
}

fn user(name: &str) -> String {
    format!("authorization {{ users: [ {{ user: {name}, password: secret }} ] }}\n")
}

#[test]
fn a_host_that_does_not_resolve_is_named_by_every_connection_and_tool() {
    let nats = Nats::start();
    let (nobody, _) = Registry::numbered(0);
    // Too long for a label, so that no server for names is asked.
    let host = format!("{}.invalid", "x".repeat(70));
    let settings = everything(&nobody, &nats).toml("nats.servers", &format!("[\"nats://{host}:4222\"]"));
    let watch = Stopwatch::start();
    let bridge = Bridge::start_unready(&settings);
    let told = ["WARN", "the NATS server cannot be reached", &host, "failed to lookup address information"];
    wait_for_roles(&bridge, &told);
    let took = watch.elapsed();
    assert!(took < TOLD_WITHIN, "{took:?}");
    let config = bridge.config().display().to_string();
    for tool in [&["tail", "--config", &config][..], &["devices", "ls", "--config", &config]] {
        let finished = run(tool, "");
        assert!(finished.code == 1 && finished.stderr.contains(&host), "{tool:?}: {finished:?}");
    }
}

#[test]
fn a_server_that_takes_connections_and_says_nothing_is_named() {
    let nats = Nats::start();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let (nobody, _) = Registry::numbered(0);
    let watch = Stopwatch::start();
    let settings = everything(&nobody, &nats).toml("nats.servers", &format!("[\"nats://{address}\"]"));
    let bridge = Bridge::start_unready(&settings);
    wait_for_roles(&bridge, &["WARN", "the NATS server cannot be reached", &address, "timed out"]);
    let took = watch.elapsed();
    assert!(took < TOLD_WITHIN, "{took:?}");
}

#[test]
fn a_connection_that_is_lost_says_why_and_a_cause_that_stays_is_told_once() {
    let nats = Nats::configured(&user("bridge"));
    let link = Link::to(nats.address());
    let servers = |address: &str| format!("[\"nats://bridge:secret@{address}\"]");
    let (nobody, _) = Registry::numbered(0);
    let through = servers(&link.address().to_string());
    let bridge = Bridge::start(&everything(&nobody, &nats).toml("nats.servers", &through));

    let up = |bridge: &Bridge| ROLES.map(|role| bridge.metric("jetlinks_bridge_nats_connected", &[role]));
    assert_eq!(up(&bridge), [1.0; 4]);
    nats.reload(&user("somebody"));
    // The server closes the connections of a user who is gone without a word.
    wait_for_roles(&bridge, &["WARN", "lost the connection to NATS", "none was given"]);
    let refused = ["WARN", "the NATS server cannot be reached", "authorization violation"];
    wait_for_roles(&bridge, &refused);
    let attempts = || {
        let page = http::get(nats.monitoring(), "/varz").unwrap().body;
        serde_json::from_str::<Value>(&page).unwrap()["total_connections"].as_u64().unwrap()
    };
    assert_eq!(up(&bridge), [0.0; 4]);
    assert_eq!(bridge.metric("jetlinks_bridge_nats_connected", &[]), 0.0, "no other role has a series");
    let before = attempts();
    eventually("each has tried it several times", PATIENCE, || (attempts() > before + 16).then_some(()));
    nats.reload(&user("bridge"));
    let reached = ["INFO", "connected to NATS"];
    eventually("every connection is there again", PATIENCE, || {
        (count_of_lines(&bridge, &reached) == 2 * ROLES.len()).then_some(())
    });
    assert_eq!(count_of_lines(&bridge, &refused), ROLES.len());

    link.cut();
    // What it says of an attempt that is cut off differs with the moment.
    wait_for_roles(
        &bridge,
        &["WARN", "the NATS server cannot be reached", &link.address().to_string(), "error=\"IO error"],
    );
    link.heal();
    eventually("every connection is there again", PATIENCE, || {
        (count_of_lines(&bridge, &reached) == 3 * ROLES.len()).then_some(())
    });
    assert_eq!(up(&bridge), [1.0; 4]);
    for role in ROLES {
        assert_eq!(bridge.metric("jetlinks_bridge_nats_reconnects_total", &[role]), 2.0, "{role}");
        assert_eq!(bridge.metric("jetlinks_bridge_nats_slow_consumer_total", &[role]), 0.0, "{role}");
    }
}

#[test]
fn a_connection_that_the_server_ends_as_slow_consumer_is_named_so_and_counted() {
    const BODY_BYTES: usize = 1_000;
    let nats = Nats::configured("max_pending: 1MB\n");
    let (registry, devices) = Registry::numbered(1);
    let mut bridge = Bridge::start(&Settings::nats(&registry, &nats));
    let _wire = Wire::connect(bridge.mqtt(), &devices[0]);
    let role = "role=\"commands\"";
    let begin = Instant::now();
    bridge.process().signal(libc::SIGSTOP);
    let caller = Caller::connect(&[nats.url()]);
    let body = format!(r#"{{"properties":["{}"]}}"#, "x".repeat(BODY_BYTES));
    eventually("the server gives the bridge up", PATIENCE, || {
        (0..1_000).for_each(|_| caller.publish("jetlinks.command.product1.device1.properties.read", None, &body));
        nats.log().contains("Slow Consumer Detected").then_some(())
    });
    // As long as the bridge needs to know that it was it that did not read.
    eventually("some time has passed", PATIENCE, || (begin.elapsed() > Duration::from_secs(5)).then_some(()));
    bridge.process().signal(libc::SIGCONT);
    wait_for_log(&bridge, &["WARN", "lost the connection to NATS", role, "slow consumer: the bridge stood still"]);
    eventually("it is there again", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_nats_connected", &[role]) == 1.0).then_some(())
    });
    let count = |name: &str| bridge.metric(&format!("jetlinks_bridge_nats_{name}_total"), &[role]);
    assert_eq!((count("slow_consumer"), count("reconnects")), (1.0, 1.0));
}
