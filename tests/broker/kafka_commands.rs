//! Commands from a real Kafka: to workers, over a real NATS to other replicas, and their outcomes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jetlinks_bridge::protocol::downlink::{Downlink, Outcome};
use jetlinks_bridge::protocol::envelope::Mode;
use jetlinks_bridge::protocol::secret::Secret;
use jetlinks_bridge::queue::kafka::{KafkaCommandSettings, KafkaCommands, KafkaSettings};
use jetlinks_bridge::queue::nats::NatsSettings;
use jetlinks_bridge::queue::{Position, Stored};
use serde_json::{Value, json};

use super::kafka_stage::{
    COMMANDS, Caller, REJECTED, REPLIES, Replica, answers, held, holder, kafka, outcome, read, settings,
    until_committed,
};
use super::support::registry::now_ms;
use super::support::{Kafka, Nats};
use super::worker;

#[test]
fn a_command_reaches_the_worker_of_its_device_and_its_outcome_the_caller() {
    let (kafka, nats) = (kafka(3), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let mut replica = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        caller.command("device1", "m1");
        let mut with_headers = read("device1", None);
        with_headers["headers"] = json!({"correlation-id": "c1"});
        caller.write("device1", &with_headers.to_string());
        caller.flush();
        let first = replica.next().await;
        assert_eq!(first.command.message_id.as_deref(), Some("m1"));
        let second = replica.next().await;
        let derived = second.command.message_id.clone().expect("a message id from partition and offset");
        assert!(derived.len() <= 15 && derived.bytes().all(|byte| byte.is_ascii_digit()), "{derived}");
        for (given, correlation) in [(first, "m1"), (second, "c1")] {
            replica.answer(&given);
            // A second answer to the same ticket is none.
            replica.answer(&given);
            let stored = caller.outcome().await;
            assert_eq!(stored.address, "device1");
            assert_eq!(stored.content_type.as_deref(), Some("application/cloudevents+json"));
            assert_eq!(answers(&stored), given.command.message_id.clone().expect("it has one"));
            assert_eq!(header(&kafka, REPLIES, &stored, "correlation-id"), correlation);
        }
        replica.answered(2).await;
    });
}

/// A header of a stored outcome, which the reader of envelopes does not show.
fn header(kafka: &Kafka, topic: &str, stored: &Stored, name: &str) -> String {
    let Position::Partition { partition, offset } = stored.place else { panic!("{:?}", stored.place) };
    let (partition, offset) = (partition.to_string(), offset.to_string());
    let arguments = ["-C", "-t", topic, "-p", &partition, "-o", &offset, "-c", "1", "-q", "-f", "%h"];
    let output = kafka.run_kcat(&arguments);
    let headers = String::from_utf8_lossy(&output.stdout).into_owned();
    let value = headers.split(',').find_map(|header| header.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {headers}")).to_owned()
}

#[test]
fn a_command_for_a_device_of_another_replica_is_handed_over_and_its_answer_is_the_outcome() {
    let (kafka, nats) = (kafka(3), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let (mut downlink, mut events) = holder(&nats, "product1", "gw.1").await;
        let replica = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        let mut child = read("child1", None);
        child["gatewayId"] = json!("gw.1");
        caller.write("gw.1", &child.to_string());
        caller.write(
            "gw.1",
            r#"{"messageType":"DIRECT","productId":"product1","deviceId":"gw.1","messageId":"d1","payload":"AAE="}"#,
        );
        caller.flush();
        let given = [held(&mut events).await, held(&mut events).await];
        assert_eq!(given[0].command.children, ["child1"]);
        assert_eq!(given[1].command.message_id.as_deref(), Some("d1"), "beside the raw bytes");
        // The later one is answered first: nobody waits for the other.
        for (given, device) in [(&given[1], "gw.1"), (&given[0], "child1")] {
            downlink.answer(given.ticket, outcome(&given.command));
            let stored = caller.outcome().await;
            assert_eq!(
                (stored.address.as_str(), answers(&stored)),
                (device, given.command.message_id.clone().unwrap())
            );
        }
        assert_eq!(replica.stats.handed_over.load(Ordering::Relaxed), 2);
        assert_eq!(replica.stats.local.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_replica_that_writes_binary_envelopes_is_heard_in_binary() {
    let (kafka, nats) = (kafka(1), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let (mut downlink, mut events) = holder(&nats, "product1", "device1").await;
        let _replica = Replica::start_in(Mode::Binary, settings(&kafka, Some(&nats)), &[]);
        caller.command("device1", "m1");
        caller.flush();
        let given = held(&mut events).await;
        let attributes = vec![("id", "01J".to_owned()), ("datacontenttype", "application/json".to_owned())];
        downlink.answer(given.ticket, Outcome { attributes, ..outcome(&given.command) });
        let stored = caller.outcome().await;
        assert_eq!(stored.content_type.as_deref(), Some("application/json"));
        assert_eq!(stored.attributes, [("id".to_owned(), "01J".to_owned())]);
        caller.command("device9", "m9");
        let offline = caller.outcome().await;
        let attribute = |name| offline.attributes.iter().find(|(other, _)| other == name).map(|(_, value)| &**value);
        assert_eq!(attribute("correlationid"), Some("m9"));
        assert_eq!(attribute("type"), Some("org.jetlinks.device.properties.read.reply"));
        let data: Value = serde_json::from_slice(&offline.payload).unwrap();
        assert_eq!(data["code"], "CLIENT_OFFLINE");
    });
}

#[test]
fn what_cannot_be_sent_fails_at_once_and_its_offset_moves_on() {
    let (kafka, nats) = (kafka(1), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let replica = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        caller.command("device9", "m1");
        let envelope = caller.failure("CLIENT_OFFLINE").await;
        assert_eq!(envelope["correlationid"], "m1");
        assert_eq!(envelope["type"], "org.jetlinks.device.properties.read.reply");

        caller.write_at(now_ms() - 61_000, None, "device1", &read("device1", Some("m2")).to_string());
        assert_eq!(caller.failure("TIME_OUT").await["correlationid"], "m2");

        caller.write("device1", r#"{"messageType":"REPORT_PROPERTY","productId":"product1","deviceId":"device1"}"#);
        let envelope = caller.failure("UNSUPPORTED_MESSAGE").await;
        assert_eq!(envelope["data"]["messageId"], "100000000002", "derived here too");

        let mut wrong = read("device1", Some("m4"));
        wrong["properties"] = json!(7);
        caller.write("device1", &wrong.to_string());
        assert_eq!(caller.failure("PARAMETER_ERROR").await["correlationid"], "m4");

        let mut endless = read("device1", Some("m5"));
        endless["headers"] = json!({"timeout": 600_001});
        caller.write("device1", &endless.to_string());
        assert_eq!(caller.failure("PARAMETER_ERROR").await["correlationid"], "m5");
        caller.write_with_header(("correlation-id", &"c".repeat(129)), "device1", &read("device1", None).to_string());
        assert_eq!(caller.failure("PARAMETER_ERROR").await["correlationid"], "100000000005");

        // Without a product: what the JSON says of its caller, unless the record's header says it.
        let no_product = r#"{"messageType":"READ_PROPERTY","deviceId":"device1","messageId":"m5"}"#;
        caller.write("device1", no_product);
        caller.write_with_header(("correlation-id", "c6"), "device1", no_product);
        caller.write_with_header(("correlation-id", "c7"), "some key", "no command");
        for (offset, key, correlation, message_id) in
            [(6, "device1", "m5", Some("m5")), (7, "device1", "c6", Some("m5")), (8, "some key", "c7", None)]
        {
            let rejected = caller.rejected().await;
            let envelope: Value = serde_json::from_slice(&rejected.payload).unwrap();
            assert_eq!(envelope["type"], "org.jetlinks.bridge.command.failed");
            assert_eq!((rejected.address.as_str(), &envelope["correlationid"]), (key, &json!(correlation)));
            assert_eq!(header(&kafka, REJECTED, &rejected, "correlation-id"), correlation);
            let data = &envelope["data"];
            assert_eq!((&data["code"], &data["partition"]), (&json!("PARAMETER_ERROR"), &json!(0)));
            assert_eq!((&data["offset"], &data["topic"]), (&json!(offset), &json!(COMMANDS)));
            let value = if key == "device1" { no_product } else { "no command" };
            assert_eq!(data["payload_base64"], STANDARD.encode(value));
            assert_eq!(data.get("deviceId").is_some(), key == "device1", "{data}");
            assert_eq!(data.get("messageId").and_then(Value::as_str), message_id);
        }
        until_committed(&kafka, 9).await;
        let stats = &replica.stats;
        let counts = [&stats.offline, &stats.stale, &stats.unreadable, &stats.local].map(|c| c.load(Ordering::Relaxed));
        assert_eq!(counts, [1, 1, 3, 0], "nothing reached the worker");
    });
}

#[test]
fn a_silent_holder_costs_a_time_out_a_little_after_the_commands_own() {
    let (kafka, nats) = (kafka(1), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let (_downlink, mut events) = holder(&nats, "product1", "device1").await;
        let replica = Replica::start(settings(&kafka, Some(&nats)), &[]);
        let mut command = read("device1", Some("m1"));
        command["headers"] = json!({"timeout": 100});
        caller.write("device1", &command.to_string());
        let envelope = caller.failure("TIME_OUT").await;
        assert_eq!(envelope["correlationid"], "m1");
        assert_eq!(replica.stats.timed_out.load(Ordering::Relaxed), 1);
        // A late answer is no second outcome.
        let given = held(&mut events).await;
        let mut downlink = _downlink;
        downlink.answer(given.ticket, outcome(&given.command));
        caller.command("device9", "m2");
        assert_eq!(caller.failure("CLIENT_OFFLINE").await["correlationid"], "m2");
    });
}

#[test]
fn settings_that_cannot_be_used_are_mistakes_at_start() {
    let client = KafkaSettings::new("127.0.0.1:9".to_owned());
    let refused = |change: fn(&mut KafkaCommandSettings)| {
        let mut settings = KafkaCommandSettings::new(client.clone(), None);
        change(&mut settings);
        KafkaCommands::new(settings, Arc::default()).err().map(|error| error.to_string())
    };
    assert_eq!(refused(|_| ()), None);
    let group = refused(|settings| settings.kafka.properties.push(("group.id".to_owned(), Secret::new("g"))));
    assert!(group.as_deref().is_some_and(|text| text.contains("group.id")), "{group:?}");
    let timeout =
        refused(|settings| settings.kafka.properties.push(("session.timeout.ms".to_owned(), Secret::new("x"))));
    assert!(timeout.as_deref().is_some_and(|text| text.contains("session.timeout.ms")), "{timeout:?}");
    let nats = refused(|settings| settings.hand_over = Some(Arc::new(NatsSettings::new(Vec::new()))));
    assert!(nats.as_deref().is_some_and(|text| text.contains("NATS")), "{nats:?}");
}
