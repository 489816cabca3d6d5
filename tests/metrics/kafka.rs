//! Commands from Kafka, alone and handed over between replicas.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::page::Seen;
use crate::support::bridge::wait_for_log;
use crate::support::registry::now_ms;
use crate::support::{Bridge, Folder, Kafka, Nats, Registration, Registry, Settings, Spoilt, Wire, eventually};
use crate::{PATIENCE, wait_counted};

/// Partitions of the topic of commands: one for each replica.
const PARTITIONS: i32 = 2;

struct Stage {
    kafka: Kafka,
    registry: Registry,
    devices: Vec<Registration>,
    writer: BaseProducer,
}

impl Stage {
    fn new() -> Self {
        let mut kafka = Kafka::start_with_topics(&["jetlinks.command"], PARTITIONS);
        for topic in ["jetlinks.device", "jetlinks.rejected", "jetlinks.reply"] {
            kafka.create_topic(topic, 1);
        }
        let (registry, devices) = Registry::numbered(2);
        let writer = kafka.client().create().unwrap();
        spoil(&mut kafka, &writer);
        Self { kafka, registry, devices, writer }
    }

    /// Writes a record into every partition, so that whoever reads one reads it.
    fn write(&self, value: &str, written_ms: i64) {
        for partition in 0..PARTITIONS {
            let record = BaseRecord::<(), str>::to("jetlinks.command").payload(value).partition(partition);
            self.writer.send(record.timestamp(written_ms)).map_err(|(error, _)| error).unwrap();
        }
        self.writer.flush(PATIENCE).unwrap();
    }

    fn command(&self, kind: &str, device: &str, timeout_ms: u64, pad: usize) {
        let command = json!({
            "messageType": kind, "productId": "product1", "deviceId": device, "properties": ["x".repeat(pad)],
            "headers": {"timeout": timeout_ms},
        });
        self.write(&command.to_string(), now_ms());
    }

    fn settings(&self) -> Settings {
        Settings::kafka(&self.registry, &self.kafka).text("commands.queue", "kafka")
    }
}

/// Leaves a batch that cannot be read as the first of a partition.
fn spoil(kafka: &mut Kafka, writer: &BaseProducer) {
    writer.send(BaseRecord::<(), str>::to("jetlinks.command").payload("x").partition(0)).unwrap();
    writer.flush(PATIENCE).unwrap();
    kafka.spoil(&[("jetlinks.command", 0, 0, Spoilt::Codec(7))]);
}

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    let stage = Stage::new();
    alone(&mut seen, &stage);
    shared(&mut seen, &stage);
    seen
}

/// Nothing is handed over: a replica reads everything, and leaves most to others.
fn alone(seen: &mut Seen, stage: &Stage) {
    let bridge = Bridge::start(&stage.settings());
    wait_for_log(&bridge, &["commands are read from the end"]);
    stage.command("READ_PROPERTY", "device9", 100, 1);
    wait_counted(&bridge, "kafka_commands_total", &["foreign"]);
    seen.scrape(&bridge);
}

fn shared(seen: &mut Seen, stage: &Stage) {
    let folder = Folder::new("nats-settings");
    let small = folder.write("nats.conf", "max_payload: 8192\n");
    let mut nats = Nats::start_with(&["-c", &small.display().to_string()]);
    let settings = stage.settings().toml("nats.servers", &format!("[{:?}]", nats.url()));
    let reading = Bridge::start(&settings);
    wait_for_log(&reading, &["partitions of the commands came here"]);
    let _local = Wire::connect(reading.mqtt(), &stage.devices[0]);
    stage.write("no command", now_ms());
    stage.command("REPORT_PROPERTY", "device1", 100, 1);
    stage.command("READ_PROPERTY", "device9", 100, 1);
    stage.command("READ_PROPERTY", "device9", 100, 10_000);
    let stale =
        json!({"messageType": "READ_PROPERTY", "productId": "product1", "deviceId": "device1", "properties": ["a"]});
    stage.write(&stale.to_string(), now_ms() - 120_000);
    wait_counted(&reading, "kafka_batches_skipped_total", &[]);
    for fate in ["unreadable", "refused", "handed_over", "stale"] {
        wait_counted(&reading, "kafka_commands_total", &[fate]);
    }
    wait_counted(&reading, "kafka_hand_over_failures_total", &["offline"]);
    wait_counted(&reading, "kafka_hand_over_failures_total", &["not_sent"]);

    // Nothing is read while NATS is away.
    nats.kill9();
    eventually("NATS is away", Duration::from_secs(60), || {
        (reading.metric("jetlinks_bridge_part_up", &["commands"]) == 0.0).then_some(())
    });
    stage.command("READ_PROPERTY", "device9", 100, 1);
    wait_counted(&reading, "kafka_command_lag_records", &[]);
    seen.scrape(&reading);
    nats.restart();
    wait_counted(&reading, "nats_reconnects_total", &["hand_over"]);

    // The device does not answer, and a partition leaves before its command is answered.
    stage.command("READ_PROPERTY", "device1", 600_000, 1);
    wait_counted(&reading, "kafka_commands_total", &["local"]);
    let other = Bridge::start(&settings);
    wait_counted(&reading, "kafka_commands_abandoned_total", &[]);
    let _remote = Wire::connect(other.mqtt(), &stage.devices[1]);
    other.signal(libc::SIGSTOP);
    stage.command("READ_PROPERTY", "device2", 100, 1);
    eventually("the hand-over is given up", Duration::from_secs(90), || {
        (reading.metric("jetlinks_bridge_kafka_hand_over_failures_total", &["timed_out"]) > 0.0).then_some(())
    });
    seen.scrape(&reading);
    other.signal(libc::SIGCONT);
}
