//! Kafka that asks who comes: passwords, certificates, and no more permissions than the documents name.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use crate::command::obey;
use crate::nats_security::{BRIDGE_PASSWORD, documented_users};
use crate::secrets::{EVERYTHING, lines_with};
use crate::support::bridge::wait_for_log;
use crate::support::wire::Incoming;
use crate::support::{
    Authority, Bridge, Connect, Device, Folder, Nats, Packet, Registration, Registry, SecuredKafka, Settings, Wire,
    document, eventually,
};

const PATIENCE: Duration = Duration::from_secs(60);
const USER: &str = "bridge";
const PASSWORD: &str = "right-password";
const WRONG: &str = "wrong-password";

/// One broker for all tests of this file that run at the same time.
struct Stage {
    kafka: SecuredKafka,
    authority: Authority,
    folder: Folder,
}

impl Stage {
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Stage>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let stage = Arc::new(Self::new());
            *shared = Arc::downgrade(&stage);
            stage
        })
    }

    fn new() -> Self {
        let authority = Authority::new();
        authority.issue("client");
        let kafka = SecuredKafka::start(&authority, USER, PASSWORD);
        for (topic, partitions) in [("device", 1), ("rejected", 1), ("reply", 1), ("command", 3)] {
            kafka.kafka().create_topic(&format!("jetlinks.{topic}"), partitions);
        }
        let folder = Folder::new("secrets");
        folder.write("right", &format!("{PASSWORD}\n"));
        folder.write("wrong", &format!("{WRONG}\n"));
        Self { kafka, authority, folder }
    }

    /// Grants what the documents say to the user of the password and to that of the certificate.
    fn grant_as_documented(&self) {
        let commands = document::block("security.md", "kafka-acls.sh").replace("\\\n", " ");
        for command in commands.lines().filter(|line| !line.trim().is_empty()) {
            let mut arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
            assert_eq!(arguments.drain(..2).next(), Some("--bootstrap-server"), "{command}");
            arguments.extend(["--allow-principal", "User:CN=client"]);
            self.kafka.run_acls(&arguments);
        }
    }

    fn settings(&self, registry: &Registry, brokers: &str, protocol: &str) -> Settings {
        Settings::kafka(registry, self.kafka.kafka())
            .text("kafka.brokers", brokers)
            .text("kafka.properties.security.protocol", protocol)
    }

    fn by_password(&self, registry: &Registry, password: &str) -> Settings {
        self.sasl(self.settings(registry, &self.kafka.sasl(), "SASL_PLAINTEXT"), "PLAIN", password)
    }

    fn by_scram(&self, registry: &Registry, password: &str) -> Settings {
        let settings = self.settings(registry, &self.kafka.sasl_tls(), "SASL_SSL");
        self.trusting(self.sasl(settings, "SCRAM-SHA-512", password), &self.authority)
    }

    fn by_certificate(&self, registry: &Registry) -> Settings {
        self.trusting(self.settings(registry, &self.kafka.tls(), "SSL"), &self.authority)
            .text("kafka.properties.ssl.certificate.location", &self.authority.path("client.pem"))
            .text("kafka.properties.ssl.key.location", &self.authority.path("client.key"))
    }

    fn sasl(&self, settings: Settings, mechanism: &str, password: &str) -> Settings {
        let file = self.folder.path().join(password).display().to_string();
        settings
            .text("kafka.properties.sasl.mechanism", mechanism)
            .text("kafka.properties.sasl.username", USER)
            .text("kafka.properties.sasl.password_file", &file)
    }

    fn trusting(&self, settings: Settings, authority: &Authority) -> Settings {
        settings.text("kafka.properties.ssl.ca.location", &authority.path("ca.pem"))
    }

    /// All envelopes of a topic.
    fn stored(&self, topic: &str) -> Vec<Value> {
        let output = self.kafka.kafka().run_kcat(&["-C", "-t", topic, "-e", "-q"]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Commands for these devices, each with its id as the id of the message.
    fn ask(&self, devices: &[Registration]) {
        let producer: BaseProducer = self.kafka.kafka().client().set("partitioner", "murmur2_random").create().unwrap();
        for device in devices {
            let command = json!({
                "messageType": "READ_PROPERTY", "productId": device.product, "deviceId": device.id,
                "messageId": device.id, "properties": ["sn"],
            });
            let command = command.to_string();
            producer.send(BaseRecord::to("jetlinks.command").key(&device.id).payload(&command)).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }
}

/// The code that a CONNECT of this device gets at this moment.
pub(crate) fn code_of_connect(bridge: &Bridge, device: &Registration) -> u8 {
    let mut wire = Wire::open(bridge.mqtt());
    wire.send(&Connect::of(device).bytes());
    match wire.next() {
        Incoming::Packet(Packet { header: 0x20, body }) => body[1],
        other => panic!("no CONNACK but {other:?}"),
    }
}

#[test]
fn passwords_scram_and_certificates_carry_reports_and_commands_with_no_more_than_the_documented_permissions() {
    let stage = Stage::shared();
    stage.grant_as_documented();
    // Who hands commands over asks as callers do.
    let users = documented_users().replacen("\"jetlinks.claim\"", "\"jetlinks.claim\", \"jetlinks.command.>\"", 1);
    let users = stage.folder.write("nats.conf", &users).display().to_string();
    let nats = Nats::start_with(&["-c", &users]);
    let servers = format!("[\"nats://bridge:{BRIDGE_PASSWORD}@{}\"]", nats.address());
    // As many on each bridge: some have their commands read by another one, which hands them over.
    let (registry, devices) = Registry::numbered(9);
    let ways =
        [stage.by_password(&registry, "right"), stage.by_scram(&registry, "right"), stage.by_certificate(&registry)];
    let bridges = ways.map(|settings| {
        let settings = settings.text("commands.queue", "kafka");
        Bridge::start(&settings.toml("nats.servers", &servers).text("nats.inbox_prefix", "_INBOX_bridge"))
    });
    for bridge in &bridges {
        wait_for_log(bridge, &["partitions of the commands came here"]);
    }
    let mut connected = Vec::new();
    for (bridge, device) in bridges.iter().cycle().zip(&devices) {
        let held = Device::connect(bridge.mqtt(), device, obey);
        held.publish(&device.topic("properties/report"), r#"{"properties":{"a":1}}"#);
        connected.push(held);
    }
    stage.ask(&devices);

    for device in &devices {
        let outcome = eventually("the command has its outcome", PATIENCE, || {
            stage.stored("jetlinks.reply").into_iter().find(|outcome| outcome["correlationid"] == device.id.as_str())
        });
        assert_eq!((&outcome["origin"], &outcome["data"]["success"]), (&json!("device"), &json!(true)), "{outcome}");
        eventually("the report is stored", PATIENCE, || {
            let is_report = |envelope: &Value| {
                envelope["type"] == "org.jetlinks.device.properties.report"
                    && envelope["deviceid"] == device.id.as_str()
            };
            stage.stored("jetlinks.device").iter().any(is_report).then_some(())
        });
    }
    for bridge in &bridges {
        for word in ["authoriz", "violation"] {
            assert!(!bridge.log().to_lowercase().contains(word), "{}", bridge.log());
        }
        assert!(!bridge.log().contains(PASSWORD), "{}", bridge.log());
    }
}

#[test]
fn whoever_is_not_let_in_by_kafka_says_why_and_lets_no_device_in() {
    let stage = Stage::shared();
    let (registry, devices) = Registry::numbered(1);
    let stranger = Authority::new();
    let cases = [
        (stage.by_password(&registry, "wrong"), "Invalid username or password"),
        (stage.by_scram(&registry, "wrong"), "invalid credentials"),
        (stage.trusting(stage.by_scram(&registry, "right"), &stranger), "certificate verify failed"),
        (stage.trusting(stage.settings(&registry, &stage.kafka.tls(), "SSL"), &stage.authority), "bad certificate"),
    ];
    let cases = cases.map(|(settings, cause)| (Bridge::start_unready(&settings), cause));
    for (bridge, cause) in cases {
        let line = wait_for_log(&bridge, &["waiting for Kafka", cause]);
        assert!(line.contains("WARN"), "{line}");
        let (status, parts) = bridge.readiness();
        assert_eq!((status, &parts["queue"]), (503, &json!("starting")), "{parts}");
        assert_eq!(code_of_connect(&bridge, &devices[0]), 3, "come later");
        for secret in [PASSWORD, WRONG] {
            assert!(!bridge.log().contains(secret), "{}", bridge.log());
        }
    }
}

#[test]
fn the_password_of_kafka_is_never_in_the_log() {
    let stage = Stage::shared();
    let (registry, devices) = Registry::numbered(1);
    for settings in [stage.by_password(&registry, "right"), stage.by_scram(&registry, "wrong")] {
        let settings = settings.text("kafka.properties.debug", "all").text("log.level", EVERYTHING);
        let bridge = Bridge::start_unready(&settings);
        code_of_connect(&bridge, &devices[0]);
        wait_for_log(&bridge, &["SASL", "librdkafka"]);
        for secret in [PASSWORD, WRONG] {
            assert_eq!(lines_with(&bridge, secret), [""; 0]);
        }
    }
}

#[test]
fn commands_that_kafka_does_not_give_out_say_why_and_keep_no_device_out() {
    let stage = Stage::shared();
    let (registry, devices) = Registry::numbered(1);
    let settings = stage.by_password(&registry, "wrong").text("uplink.queue", "stdio").text("commands.queue", "kafka");
    let bridge = Bridge::start(&settings);
    wait_for_log(&bridge, &["WARN", "trouble with a Kafka broker", "Invalid username or password"]);
    wait_for_log(&bridge, &["WARN", "commands wait for Kafka", "Invalid username or password"]);
    assert_eq!(code_of_connect(&bridge, &devices[0]), 0);
    assert!(!bridge.log().contains(WRONG), "{}", bridge.log());
}

#[test]
fn a_file_that_kafka_needs_and_that_is_not_there_is_a_mistake_of_the_configuration() {
    let stage = Stage::shared();
    let (registry, _) = Registry::numbered(0);
    let settings = stage.by_certificate(&registry).text("kafka.properties.ssl.key.location", "/nonexistent/key");
    let mut bridge = Bridge::spawn(&settings, &[]);
    assert_eq!(bridge.exit_code(), 78, "{}", bridge.log());
    assert!(bridge.log().contains("ssl.key.location") && bridge.log().contains("/nonexistent/key"), "{}", bridge.log());
}
