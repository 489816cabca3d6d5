//! `check --connect`: what real servers say, each part named, and nothing stored.

use std::time::Duration;

use serde_json::Value;

use crate::support::bridge::run;
use crate::support::{Authority, Bridge, Collector, Folder, Kafka, Nats, Registry, SecuredKafka, Settings, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// Exit code, and the findings as `part result subject: text`.
fn check(settings: &Settings) -> (i32, Vec<String>) {
    let folder = Folder::new("check");
    let config = folder.write("bridge.toml", &settings.render()).display().to_string();
    let finished = run(&["check", "--connect", "--output", "json", "--config", &config], "");
    let report: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    assert_eq!(report["mistakes"].as_array().map(Vec::len), Some(0), "{report}");
    assert_eq!(report["ok"], finished.code == 0, "{report}");
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let line = |finding: &Value| {
        let [part, result, subject, words] = ["part", "result", "subject", "text"].map(|key| text(finding, key));
        format!("{part} {result} {subject}: {words}")
    };
    (finished.code, report["findings"].as_array().unwrap().iter().map(line).collect())
}

fn assert_finding(found: &[String], start: &str) {
    assert!(found.iter().any(|line| line.starts_with(start)), "{start}: {found:#?}");
}

/// Messages that the stream holds and its last number; `None` without a stream.
fn stored(nats: &Nats) -> Option<(Value, Value)> {
    let shown = nats.run_cli(&["stream", "info", "JETLINKS_DEVICE", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
    Some((shown["state"]["messages"].clone(), shown["state"]["last_seq"].clone()))
}

#[test]
fn a_nats_that_has_everything_is_well_and_keeps_no_trace_of_the_check() {
    let (registry, nats) = (Registry::numbered(1).0, Nats::start());
    let settings = Settings::nats(&registry, &nats).text("presence.heartbeat", "1h");
    let (code, found) = check(&settings);
    assert_eq!(code, 0, "{found:#?}");
    assert_finding(&found, "nats note stream JETLINKS_DEVICE: does not exist: the bridge makes it");
    assert_eq!(stored(&nats), None, "a check makes no stream");

    let _bridge = Bridge::start(&settings);
    let before = stored(&nats);
    assert!(before.is_some());
    let (code, found) = check(&settings);
    assert_eq!(code, 0, "{found:#?}");
    assert_finding(&found, "nats ok server 127.0.0.1:");
    assert_finding(&found, "nats ok stream JETLINKS_DEVICE: is there, copies: 1");
    for kind in ["device", "rejected", "bridge"] {
        let start = format!("nats ok subject jetlinks.{kind}.>: may be published, and the stream stores it");
        assert_finding(&found, &start);
    }
    for subject in ["claim", "replica"] {
        assert_finding(&found, &format!("nats ok subject jetlinks.{subject}: may be subscribed"));
        assert_finding(&found, &format!("nats ok subject jetlinks.{subject}: may be published"));
    }
    assert_finding(&found, "nats ok subject jetlinks.command.");
    assert_finding(&found, "nats ok subject jetlinks.echo.>: ");
    assert_finding(&found, "registry ok file ");
    assert_eq!(stored(&nats), before, "a check stores nothing");
}

#[test]
fn permissions_that_a_user_of_nats_lacks_are_named_one_by_one() {
    let users = r#"accounts { A { jetstream: enabled, users: [
        { user: all, password: p },
        { user: few, password: p, permissions: {
            publish: ["jetlinks.device.>", "$JS.API.STREAM.INFO.>", "jetlinks.echo.>"],
            subscribe: ["_INBOX.>", "jetlinks.echo.>", "jetlinks.claim"] } } ] } }"#;
    let (registry, nats) = (Registry::numbered(1).0, Nats::configured(users));
    let of = |user: &str| {
        Settings::nats(&registry, &nats).toml("nats.servers", &format!("[\"nats://{user}:p@{}\"]", nats.address()))
    };
    let _bridge = Bridge::start(&of("all"));
    let (code, found) = check(&of("few"));
    assert_eq!(code, 1, "{found:#?}");
    for start in [
        "nats ok subject jetlinks.device.>: ",
        "nats trouble subject jetlinks.rejected.>: the user may not publish to jetlinks.rejected.",
        "nats trouble subject jetlinks.bridge.>: the user may not publish",
        "nats ok subject jetlinks.claim: may be subscribed",
        "nats trouble subject jetlinks.replica: must be subscribed, and the user may not",
        "nats trouble subject jetlinks.command.",
        "nats note subject jetlinks.claim: publishing was not tried",
    ] {
        assert_finding(&found, start);
    }
}

#[test]
fn servers_that_are_not_there_are_named_each_with_its_cause() {
    let (registry, nats) = (Registry::numbered(1).0, Nats::start());
    let settings = |servers: &str| Settings::nats(&registry, &nats).toml("nats.servers", servers);
    let (code, found) = check(&settings("[\"nats://name.invalid:4222\", \"nats://127.0.0.1:1\"]"));
    assert_eq!(code, 1, "{found:#?}");
    assert_finding(&found, "nats trouble server name.invalid:4222: cannot be reached: DNS error");
    assert_finding(&found, "nats trouble server 127.0.0.1:1: cannot be reached: IO error: Connection refused");

    let (code, found) = check(&settings(&format!("[\"nats://127.0.0.1:1\", {:?}]", nats.url())));
    assert_eq!(code, 0, "{found:#?}");
    assert_finding(&found, "nats note server 127.0.0.1:1: cannot be reached");

    let away = Settings::stdio(&registry)
        .text("uplink.queue", "kafka")
        .text("kafka.brokers", "127.0.0.1:1")
        .text("registry.source", "http")
        .text("registry.http.url", "http://127.0.0.1:1/devices")
        .text("tracing.endpoint", "http://127.0.0.1:1");
    let (code, found) = check(&away);
    assert_eq!(code, 1, "{found:#?}");
    assert_finding(&found, "kafka trouble brokers 127.0.0.1:1: cannot be reached: 127.0.0.1:1: Connect to");
    assert_finding(&found, "registry trouble service http://127.0.0.1:1/devices: ");
    assert_finding(&found, "collector trouble endpoint http://127.0.0.1:1/v1/traces: ");

    let bucket = Settings::nats(&registry, &nats).text("registry.source", "nats");
    assert_finding(
        &check(&bucket).1,
        "registry trouble bucket jetlinks_devices: bucket jetlinks_devices does not exist",
    );
}

#[test]
fn a_collector_that_takes_spans_is_well() {
    let (registry, _) = Registry::numbered(1);
    let collector = Collector::start();
    let (code, found) = check(&Settings::stdio(&registry).text("tracing.endpoint", &collector.url()));
    assert_eq!(code, 0, "{found:#?}");
    assert_finding(&found, "collector ok endpoint ");
}

#[test]
fn topics_that_are_missing_or_cannot_take_a_record_are_told() {
    let (registry, _) = Registry::numbered(1);
    let kafka = Kafka::start_with_topics(&["jetlinks.device"], 3);
    let settings = Settings::kafka(&registry, &kafka);
    let (code, found) = check(&settings);
    assert_eq!(code, 1, "{found:#?}");
    assert_finding(&found, "kafka ok topic jetlinks.device: partitions: 3, copies: 1, min.insync.replicas: 1");
    assert_finding(&found, "kafka ok topic jetlinks.device: may be written");
    assert_finding(&found, "kafka trouble topic jetlinks.rejected: does not exist, or the user may not see it");
    let (code, found) = check(&settings.clone().toml("kafka.create_topics", "true"));
    assert_eq!(code, 0, "{found:#?}");
    assert_finding(&found, "kafka note topic jetlinks.rejected: does not exist: the bridge makes it");

    kafka.create_topic_with("jetlinks.rejected", 1, &[("min.insync.replicas", "2"), ("max.message.bytes", "20000")]);
    let (code, found) = check(&settings);
    assert_eq!(code, 1, "{found:#?}");
    assert_finding(&found, "kafka trouble topic jetlinks.rejected: nothing can be written: min.insync.replicas is 2");
    let listed = kafka.run_kcat(&["-L", "-J"]);
    assert!(!String::from_utf8_lossy(&listed.stdout).contains("jetlinks.command"), "a check makes no topic");
}

#[test]
fn permissions_that_a_user_of_kafka_lacks_are_named() {
    let (registry, _) = Registry::numbered(1);
    let authority = Authority::new();
    let kafka = SecuredKafka::start(&authority, "bridge", "right-password");
    for topic in ["device", "rejected", "command", "reply"] {
        kafka.kafka().create_topic(&format!("jetlinks.{topic}"), 1);
    }
    let settings = Settings::kafka(&registry, kafka.kafka())
        .text("commands.queue", "kafka")
        .text("kafka.brokers", &kafka.sasl())
        .text("kafka.properties.security.protocol", "SASL_PLAINTEXT")
        .text("kafka.properties.sasl.mechanism", "PLAIN")
        .text("kafka.properties.sasl.username", "bridge")
        .text("kafka.properties.sasl.password", "right-password");
    let grant =
        |arguments: &[&str]| kafka.run_acls(&[&["--add", "--allow-principal", "User:bridge"], arguments].concat());
    grant(&["--operation", "DESCRIBE", "--topic", "jetlinks.", "--resource-pattern-type", "prefixed"]);
    let find = |start: &str| {
        eventually(start, PATIENCE, || check(&settings).1.iter().any(|line| line.starts_with(start)).then_some(()));
    };
    find("kafka trouble topic jetlinks.device: must be written, and the user may not: permit WRITE");
    find("kafka trouble topic jetlinks.command: must be read, and the user may not: permit READ");
    find("kafka trouble group jetlinks-bridge: ");
    grant(&[
        "--operation",
        "WRITE",
        "--operation",
        "READ",
        "--topic",
        "jetlinks.",
        "--resource-pattern-type",
        "prefixed",
    ]);
    grant(&["--operation", "READ", "--group", "jetlinks-bridge"]);
    find("kafka ok topic jetlinks.device: may be written");
    find("kafka ok topic jetlinks.command: may be read");
    find("kafka ok group jetlinks-bridge: may be joined");
    assert_eq!(check(&settings).0, 0);
}
