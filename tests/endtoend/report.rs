//! A report on its way to both queues, by programs of other people at both ends.

use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::command::last_envelope;
use crate::support::bridge::run;
use crate::support::{Bridge, Kafka, Nats, Registry, Settings, eventually, tool};

const PATIENCE: Duration = Duration::from_secs(60);
const SUBJECT: &str = "jetlinks.device.product1.device1.properties.report";
const TOPICS: [&str; 4] = ["jetlinks.device", "jetlinks.rejected", "jetlinks.command", "jetlinks.reply"];

/// A record as kcat prints it.
pub(crate) struct Record {
    key: String,
    headers: String,
    timestamp: i64,
    pub(crate) envelope: Value,
}

/// Publishes with mosquitto_pub as device1, with credentials that the bridge's own command made.
fn publish(bridge: &Bridge, version: &str, qos: u8, topic: &str, payload: &str) {
    let config = bridge.config().display().to_string();
    let made = run(&["credentials", "device1", "--config", &config, "--output", "json"], "");
    let made: Value = serde_json::from_str(&made.stdout).unwrap_or_else(|error| panic!("{error}: {made:?}"));
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let address = bridge.mqtt();
    let output = Command::new(tool::system("mosquitto_pub"))
        .args(["-h", &address.ip().to_string(), "-p", &address.port().to_string(), "-V", version])
        .args(["-i", &text("clientId"), "-u", &text("username"), "-P", &text("password")])
        .args(["-q", &qos.to_string(), "-t", topic, "-m", payload])
        .output()
        .unwrap();
    assert!(output.status.success(), "{version} QoS {qos}: {output:?}");
}

pub(crate) fn last_in_stream(nats: &Nats) -> Option<(u64, String, Value)> {
    let output = nats.run_cli(&["stream", "get", "JETLINKS_DEVICE", "--last-for", SUBJECT, "--json"]);
    let message: Value = serde_json::from_slice(&output.stdout).ok()?;
    let decode = |name: &str| STANDARD.decode(message[name].as_str().unwrap()).unwrap();
    let headers = String::from_utf8(decode("hdrs")).unwrap();
    Some((message["seq"].as_u64()?, headers, serde_json::from_slice(&decode("data")).unwrap()))
}

pub(crate) fn reports_in_topic(kafka: &Kafka) -> Vec<Record> {
    let format = r"%k\t%h\t%T\t%s\n";
    let output = kafka.run_kcat(&["-C", "-t", "jetlinks.device", "-o", "beginning", "-e", "-q", "-f", format]);
    let record = |line: &str| {
        let columns: Vec<&str> = line.splitn(4, '\t').collect();
        Record {
            key: columns[0].to_owned(),
            headers: columns[1].to_owned(),
            timestamp: columns[2].parse().unwrap(),
            envelope: serde_json::from_str(columns[3]).unwrap(),
        }
    };
    let records = String::from_utf8(output.stdout).unwrap().lines().map(record).collect::<Vec<_>>();
    records.into_iter().filter(|record| record.envelope["type"] == "org.jetlinks.device.properties.report").collect()
}

/// The envelope without what differs from one delivery to the next.
fn comparable(envelope: &Value) -> Value {
    let mut envelope = envelope.clone();
    for name in ["id", "recordedtime", "sessionid"] {
        assert!(envelope.as_object_mut().unwrap().remove(name).is_some_and(|value| value.is_string()), "{name}");
    }
    envelope
}

#[test]
fn the_same_report_is_the_same_envelope_in_both_queues_at_every_qos_and_version() {
    let (nats, kafka) = (Nats::start(), Kafka::start_with_topics(&TOPICS, 3));
    let (registry, devices) = Registry::numbered(1);
    let to_nats = Bridge::start(&Settings::nats(&registry, &nats));
    let to_kafka = Bridge::start(&Settings::kafka(&registry, &kafka));
    let topic = devices[0].topic("properties/report");
    let payload = r#"{"messageId":"m1","timestamp":1601196762389,"properties":{"temp":36.80}}"#;

    let mut from_nats = Vec::new();
    for version in ["mqttv31", "mqttv311"] {
        for qos in 0..3 {
            publish(&to_nats, version, qos, &topic, payload);
            let sequence_before = from_nats.last().map_or(0, |(sequence, _, _)| *sequence);
            from_nats.push(eventually("the report is in the stream", PATIENCE, || {
                last_in_stream(&nats).filter(|(sequence, _, _)| *sequence > sequence_before)
            }));
            publish(&to_kafka, version, qos, &topic, payload);
        }
    }
    let from_kafka = eventually("all reports are in the topic", PATIENCE, || {
        Some(reports_in_topic(&kafka)).filter(|reports| reports.len() >= from_nats.len())
    });

    let first = comparable(&from_nats[0].2);
    assert_eq!(first["data"]["properties"].to_string(), r#"{"temp":36.80}"#);
    assert_eq!(first["time"], "2020-09-27T08:52:42.389Z");
    assert_eq!(from_kafka.len(), from_nats.len());
    for (_, headers, envelope) in &from_nats {
        assert_eq!(comparable(envelope), first);
        assert!(headers.to_lowercase().contains("content-type: application/cloudevents+json"), "{headers}");
    }
    for record in &from_kafka {
        assert_eq!(comparable(&record.envelope), first);
        assert_eq!(record.key, "device1");
        assert!(record.headers.contains("content-type=application/cloudevents+json"), "{}", record.headers);
        assert!(record.timestamp > 1_601_196_762_389, "the record's time is that of the bridge");
    }
}

#[test]
fn presence_and_rejections_are_where_the_platform_looks_for_them() {
    let (nats, kafka) = (Nats::start(), Kafka::start_with_topics(&TOPICS, 1));
    let (registry, devices) = Registry::numbered(1);
    let bridges = [Settings::nats(&registry, &nats), Settings::kafka(&registry, &kafka)].map(|it| Bridge::start(&it));
    for bridge in &bridges {
        publish(bridge, "mqttv311", 1, &devices[0].topic("properties/report"), "{");
    }
    for (subject, kind) in [
        ("jetlinks.device.product1.device1.online", "org.jetlinks.device.online"),
        ("jetlinks.device.product1.device1.offline", "org.jetlinks.device.offline"),
        ("jetlinks.rejected.product1.device1", "org.jetlinks.bridge.rejected"),
    ] {
        let envelope = eventually(subject, PATIENCE, || last_envelope(&nats, subject));
        assert_eq!((&envelope["type"], &envelope["deviceid"]), (&Value::from(kind), &Value::from("device1")));
    }
    for (topic, kinds) in [
        ("jetlinks.device", &["org.jetlinks.device.online", "org.jetlinks.device.offline"][..]),
        ("jetlinks.rejected", &["org.jetlinks.bridge.rejected"]),
    ] {
        eventually(topic, PATIENCE, || {
            let output = kafka.run_kcat(&["-C", "-t", topic, "-e", "-q", "-f", r"%k %s\n"]);
            let text = String::from_utf8(output.stdout).unwrap();
            let about_device = text.lines().filter_map(|line| line.strip_prefix("device1 "));
            let found: Vec<Value> = about_device.map(|line| serde_json::from_str(line).unwrap()).collect();
            (found.iter().map(|envelope| envelope["type"].as_str().unwrap()).eq(kinds.iter().copied())).then_some(())
        });
    }
}
