//! Causes of a failed connection to Kafka, as the log names them.

use std::net::TcpListener;
use std::time::Duration;

use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::kafka_security::code_of_connect;
use crate::support::bridge::{run, wait_for_log};
use crate::support::{
    Authority, Bridge, Device, Folder, Kafka, KafkaPair, Load, Nats, Registry, SecuredKafka, Settings, eventually, port,
};

const PATIENCE: Duration = Duration::from_secs(60);
/// A cause is named within this time.
const SOON: Duration = Duration::from_secs(5);

/// When a line of the log was written, ms of that day.
fn written_ms(line: &str) -> i64 {
    let time = line.split_once('T').and_then(|(_, rest)| rest.split_once('Z')).expect("a line begins with its time").0;
    let parts: Vec<f64> = time.split(':').map(|part| part.parse().unwrap()).collect();
    ((parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]) * 1000.0) as i64
}

/// Waits for the line with these texts; it was written soon after the first line of the log.
fn assert_named_soon(bridge: &Bridge, texts: &[&str]) {
    let line = wait_for_log(bridge, texts);
    let log = bridge.log();
    let begin = written_ms(log.lines().next().unwrap());
    let took = (written_ms(&line) - begin).rem_euclid(24 * 3_600_000);
    let took = bridge.since_start().counted(Duration::from_millis(took.cast_unsigned()));
    assert!(took <= SOON, "after {took:?}: {line}");
    assert!(line.contains("WARN") || line.contains("ERROR"), "{line}");
    let count = log.lines().filter(|line| texts.iter().all(|text| line.contains(text))).count();
    assert_eq!(count, 1, "{log}");
}

#[test]
fn every_way_to_kafka_names_the_host_and_what_is_wrong_with_it() {
    let (registry, _) = Registry::numbered(1);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("127.0.0.1:{}", port::free_port());
    let cases = [
        ("no-such-host.invalid:9092".to_owned(), "Failed to resolve"),
        (closed, "Connection refused"),
        (silent.local_addr().unwrap().to_string(), "Connection setup timed out"),
    ];
    for (brokers, cause) in cases {
        let stdio = Settings::stdio(&registry).text("kafka.brokers", &brokers);
        let records = Bridge::start_unready(&stdio.clone().text("uplink.queue", "kafka"));
        let commands = Bridge::start(&stdio.text("commands.queue", "kafka"));
        assert_named_soon(&records, &["trouble with a Kafka broker", "\"records\"", &brokers, cause]);
        assert_named_soon(&commands, &["trouble with a Kafka broker", "\"outcomes\"", &brokers, cause]);
        wait_for_log(&records, &["waiting for Kafka", &brokers, cause]);
        wait_for_log(&commands, &["commands wait for Kafka", &brokers, cause]);

        let config = records.config().display().to_string();
        let send = ["send", "--config", &config, "--set", "commands.queue=kafka", "--device", "product1/device1"];
        let send = [&send[..], &["--type", "properties.read", "{}"]].concat();
        for arguments in [&["tail", "--config", &config][..], &send] {
            let finished = run(arguments, "");
            assert_eq!(finished.code, 1, "{finished:?}");
            assert!(finished.stderr.contains(&brokers) && finished.stderr.contains(cause), "{finished:?}");
        }
    }
}

#[test]
fn a_listener_that_speaks_something_else_is_named_with_what_may_be_wrong() {
    let authority = Authority::new();
    let secured = SecuredKafka::start(&authority, "bridge", "password");
    let (registry, _) = Registry::numbered(1);
    let settings = |brokers: &str| Settings::kafka(&registry, secured.kafka()).text("kafka.brokers", brokers);
    // TLS is wanted; TLS comes where none is; a password is wanted.
    let bridge = Bridge::start_unready(&settings(&secured.tls()));
    wait_for_log(&bridge, &["WARN", "trouble with a Kafka broker", &secured.tls(), "security.protocol"]);
    let plain = secured.kafka().brokers();
    let bridge = Bridge::start_unready(&settings(&plain).text("kafka.properties.security.protocol", "SSL"));
    wait_for_log(&bridge, &["WARN", "trouble with a Kafka broker", &plain, "SSL"]);
    let bridge = Bridge::start_unready(&settings(&secured.sasl()));
    wait_for_log(&bridge, &["WARN", "trouble with a Kafka broker", &secured.sasl()]);
}

#[test]
fn rights_that_are_missing_for_commands_are_named() {
    const USER: &str = "bridge";
    let secured = SecuredKafka::start(&Authority::new(), USER, "password");
    for topic in ["jetlinks.command", "jetlinks.reply", "jetlinks.rejected"] {
        secured.kafka().create_topic(topic, 1);
    }
    let grant = |arguments: &[&str]| {
        let user = format!("User:{USER}");
        secured.run_acls(&[&["--add", "--allow-principal", &user][..], arguments].concat());
    };
    for topic in ["jetlinks.command", "jetlinks.reply", "jetlinks.rejected"] {
        grant(&["--operation", "Describe", "--topic", topic]);
    }
    let nats = Nats::start();
    let (registry, _) = Registry::numbered(1);
    let settings = Settings::stdio(&registry)
        .text("commands.queue", "kafka")
        .toml("nats.servers", &format!("[{:?}]", nats.url()))
        .text("kafka.brokers", &secured.sasl())
        .text("kafka.properties.security.protocol", "SASL_PLAINTEXT")
        .text("kafka.properties.sasl.mechanism", "PLAIN")
        .text("kafka.properties.sasl.username", USER)
        .text("kafka.properties.sasl.password", "password");
    let bridge = Bridge::start(&settings);
    assert_named_soon(&bridge, &["commands cannot be read from Kafka", "Group authorization failed"]);
    let commands_are_away = |bridge: &Bridge| {
        eventually("commands are away", PATIENCE, || (bridge.readiness().1["commands"] == "away").then_some(()));
    };
    commands_are_away(&bridge);
    // It would join the group after all, and the next one would get no partition.
    drop(bridge);
    grant(&["--operation", "Read", "--group", "jetlinks-bridge"]);
    // What the group says is heard when the client asks again.
    let bridge = Bridge::start(&settings);
    let texts = ["ERROR", "commands cannot be read from Kafka", "jetlinks.command", "uthorization failed"];
    wait_for_log(&bridge, &texts);
    commands_are_away(&bridge);
    grant(&["--operation", "Read", "--topic", "jetlinks.command"]);
    let writer: BaseProducer = secured.kafka().client().create().unwrap();
    writer.send(BaseRecord::<(), str>::to("jetlinks.command").payload("no command")).unwrap();
    writer.flush(PATIENCE).unwrap();
    eventually("commands come", PATIENCE, || (bridge.readiness().1["commands"] == "ok").then_some(()));
}

#[test]
fn too_few_replicas_in_sync_are_named_and_the_queue_is_not_called_well_meanwhile() {
    const TOPIC: &str = "jetlinks.device";
    let pair = KafkaPair::start();
    let kafka = pair.first();
    let both = NewTopic::new(TOPIC, 1, TopicReplication::Variable(&[&[1, 2]]));
    kafka.create(&both.set("min.insync.replicas", "2"));
    kafka.create(&NewTopic::new("jetlinks.rejected", 1, TopicReplication::Variable(&[&[1]])));
    pair.second().signal(libc::SIGKILL);
    eventually("one replica is in sync", PATIENCE, || {
        let consumer: BaseConsumer = kafka.client().create().unwrap();
        let metadata = consumer.fetch_metadata(Some(TOPIC), Duration::from_secs(2)).ok()?;
        (metadata.topics().first()?.partitions().first()?.isr() == [1]).then_some(())
    });
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start_unready(&Settings::kafka(&registry, kafka));
    let cause = "topic jetlinks.device, partition 0: 1 of 2 replicas are in sync, and min.insync.replicas is 2";
    assert_named_soon(&bridge, &["Kafka does not take records", cause]);
    assert_eq!((bridge.readiness().0, code_of_connect(&bridge, &devices[0])), (503, 3));

    kafka.set_topic(TOPIC, "min.insync.replicas", "1");
    wait_for_log(&bridge, &["Kafka is ready"]);
    let bridge = bridge.until_ready();
    let mut load = Load::start(bridge.mqtt(), &registry, 1, 20.0);
    let stored = || bridge.metric("jetlinks_bridge_queue_records_total", &["stored"]);
    eventually("messages are stored", PATIENCE, || (stored() > 20.0).then_some(()));

    kafka.set_topic(TOPIC, "min.insync.replicas", "2");
    wait_for_log(&bridge, &["Kafka is away"]);
    eventually("the queue is not called well", PATIENCE, || (bridge.readiness().1["queue"] != "ok").then_some(()));
    let stalls = || bridge.metric("jetlinks_bridge_queue_stalls_total", &[]);
    let before = stalls();
    // For longer than a producer is kept that gets nowhere.
    eventually("another producer gets nowhere either", PATIENCE, || {
        assert_ne!(bridge.readiness().1["queue"], "ok", "{}", bridge.log());
        (stalls() > before).then_some(())
    });
    let log = bridge.log();
    for (text, count) in [(cause, 2), ("Kafka is away", 1), ("stored nothing", 1), ("Kafka is ready", 1)] {
        assert_eq!(log.lines().filter(|line| line.contains(text)).count(), count, "{text}: {log}");
    }
    kafka.set_topic(TOPIC, "min.insync.replicas", "1");
    eventually("the queue is back", PATIENCE, || (bridge.readiness().1["queue"] == "ok").then_some(()));
    load.finish();
    load.verify(&bridge.config());
}

#[test]
fn a_partition_without_a_leader_is_named_and_costs_no_device_of_another_one_anything() {
    let kafka = KafkaPair::start();
    kafka.first().create(&NewTopic::new("jetlinks.device", 2, TopicReplication::Variable(&[&[1], &[2]])));
    kafka.first().create(&NewTopic::new("jetlinks.rejected", 1, TopicReplication::Variable(&[&[1]])));
    let (registry, devices) = Registry::numbered(8);
    let settings = Settings::kafka(&registry, kafka.first()).text("kafka.brokers", &kafka.brokers());
    let bridge = Bridge::start(&settings);
    let connected: Vec<Device> =
        devices.iter().map(|device| Device::connect(bridge.mqtt(), device, |_, _| None)).collect();
    let closed = || bridge.metric("jetlinks_bridge_sessions_closed_total", &["not_acknowledged"]);
    let report = |number: usize| connected[number].publish(&devices[number].topic("properties/report"), "{}");
    // A proof, and that each device is there: whoever is not announced yet is closed for that.
    let stored = || bridge.metric("jetlinks_bridge_queue_records_total", &["stored"]);
    eventually("every device is announced", PATIENCE, || (stored() > devices.len() as f64).then_some(()));
    kafka.second().signal(libc::SIGKILL);
    // One device at a time, so that there is silence but for one record: half of them are in the partition that is gone.
    for number in 0..devices.len() {
        let before = closed();
        let stored = bridge.metric("jetlinks_bridge_queue_records_total", &["stored"]);
        report(number);
        eventually("the report is stored, or its device closed", PATIENCE, || {
            assert_eq!(bridge.readiness().1["queue"], "ok", "{}", bridge.log());
            let is_stored = bridge.metric("jetlinks_bridge_queue_records_total", &["stored"]) > stored;
            (is_stored || closed() > before).then_some(())
        });
    }
    let named = ["Kafka does not take records", "topic jetlinks.device, partition 1: it has no leader"];
    assert!(wait_for_log(&bridge, &named).contains("ERROR"));
    assert!(closed() < devices.len() as f64, "devices of both partitions were closed");
    for metric in ["outages", "stalls"] {
        assert_eq!(bridge.metric(&format!("jetlinks_bridge_queue_{metric}_total"), &[]), 0.0, "{}", bridge.log());
    }
}

#[test]
fn two_replicas_of_one_name_are_told_from_a_restart_of_kafka() {
    let mut kafka = Kafka::start_with_topics(&["jetlinks.command", "jetlinks.reply", "jetlinks.rejected"], 1);
    let nats = Nats::start();
    let (registry, _) = Registry::numbered(1);
    let settings = Settings::stdio(&registry)
        .text("commands.queue", "kafka")
        .text("kafka.brokers", &kafka.brokers())
        .text("kafka.properties.group.instance.id", "bridge-0")
        .toml("nats.servers", &format!("[{:?}]", nats.url()));
    let conflict = "another replica has the same group.instance.id";
    let bridge = Bridge::start(&settings);
    wait_for_log(&bridge, &["partitions of the commands came here"]);
    let folder = Folder::new("command");
    let command = json!({"messageType": "READ_PROPERTY", "productId": "product1", "deviceId": "device9",
        "messageId": "after", "properties": ["a"]});
    let file = folder.write("command", &command.to_string()).display().to_string();
    for _ in 0..2 {
        kafka.restart();
        let before = bridge.metric("jetlinks_bridge_kafka_hand_over_failures_total", &["offline"]);
        assert!(kafka.run_kcat(&["-P", "-t", "jetlinks.command", "-k", "device9", &file]).status.success());
        eventually("commands are read again", PATIENCE, || {
            let now = bridge.metric("jetlinks_bridge_kafka_hand_over_failures_total", &["offline"]);
            (now > before).then_some(())
        });
    }
    assert!(!bridge.log().contains(conflict), "{}", bridge.log());
    assert!(!bridge.log().contains("ERROR"), "{}", bridge.log());
    drop(bridge);

    let bridges = [Bridge::start(&settings), Bridge::start(&settings)];
    eventually("the conflict is named", PATIENCE, || {
        let names =
            |bridge: &Bridge| bridge.log().lines().any(|line| line.contains("ERROR") && line.contains(conflict));
        bridges.iter().any(names).then_some(())
    });
}
