//! Replicas without devices around a real Kafka and a real NATS, for tests that play their workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jetlinks_bridge::protocol::command::Command;
use jetlinks_bridge::protocol::downlink::{Downlink, DownlinkEvent, Outcome, Recipient, Ticket};
use jetlinks_bridge::protocol::envelope::{Encoder, Mode};
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::secret::Secret;
use jetlinks_bridge::protocol::uplink::{Addressing, SlotId};
use jetlinks_bridge::queue::kafka::{
    KafkaAnswers, KafkaCommandSettings, KafkaCommandStats, KafkaCommands, KafkaReader, KafkaSettings,
};
use jetlinks_bridge::queue::nats::{NatsDownlink, NatsSettings};
use jetlinks_bridge::queue::{ReadError, ReadFrom, Stored};
use jetlinks_bridge::replica::HandOverSettings;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::support::registry::now_ms;
use super::support::{Kafka, Nats};
use super::worker::PATIENCE;

pub(crate) const COMMANDS: &str = "jetlinks.command";
pub(crate) const REPLIES: &str = "jetlinks.reply";
pub(crate) const REJECTED: &str = "jetlinks.rejected";

pub(crate) fn kafka(partitions: i32) -> Kafka {
    let kafka = Kafka::start_with_topics(&[COMMANDS], partitions);
    kafka.create_topic(REPLIES, 1);
    kafka.create_topic(REJECTED, 1);
    kafka
}

pub(crate) fn settings(kafka: &Kafka, nats: Option<&Nats>) -> KafkaCommandSettings {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut client = KafkaSettings::new(kafka.brokers());
    client.properties.push(("broker.address.family".to_owned(), Secret::new("v4")));
    client.client_id = format!("replica-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let hand_over = nats.map(|nats| Arc::new(NatsSettings::new(vec![nats.url()])) as Arc<dyn HandOverSettings>);
    KafkaCommandSettings::new(client, hand_over)
}

/// A replica with one worker, which is the test.
pub(crate) struct Replica {
    pub(crate) commands: KafkaCommands,
    pub(crate) events: mpsc::Receiver<DownlinkEvent>,
    pub(crate) stats: Arc<KafkaCommandStats>,
}

/// Events that a worker received.
pub(crate) struct Given {
    pub(crate) ticket: Ticket,
    pub(crate) command: Command,
}

impl Replica {
    pub(crate) fn start(settings: KafkaCommandSettings, devices: &'static [&'static str]) -> Self {
        Self::start_in(Mode::Structured, settings, devices)
    }

    pub(crate) fn start_in(mode: Mode, settings: KafkaCommandSettings, devices: &'static [&'static str]) -> Self {
        let stats = Arc::new(KafkaCommandStats::default());
        let encoder = Encoder::new(mode, Addressing::Key, settings.kafka.client_id.clone(), 7);
        let commands = KafkaCommands::new(settings, Arc::clone(&stats)).expect("the settings are right");
        let (sender, events) = mpsc::channel(16);
        let route = |device: &DeviceId| devices.contains(&device.as_str()).then_some(0);
        commands.start(encoder, route, vec![sender], |_| ()).expect("the thread starts");
        Self { commands, events, stats }
    }

    pub(crate) async fn next(&mut self) -> Given {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("a command in time");
        match event.expect("the thread runs") {
            DownlinkEvent::Command { to: Recipient::Device(device), ticket: Some(ticket), command } => {
                let command = command.expect("only readable commands come");
                assert_eq!(command.device, device.as_str());
                Given { ticket, command }
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn answer(&self, given: &Given) {
        assert!(KafkaAnswers::owns(given.ticket));
        self.commands.answers().answer(given.ticket, outcome(&given.command));
    }

    pub(crate) async fn answered(&self, count: u64) {
        let answered = async {
            while self.stats.answered.load(Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, answered).await.expect("the outcomes are stored in time");
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.commands.stop();
    }
}

/// A reply, as a worker makes it.
pub(crate) fn outcome(command: &Command) -> Outcome {
    let message_id = command.message_id.clone().expect("every command has a message id");
    Outcome {
        device: command.about().to_owned(),
        correlation_id: command.correlation_id.clone().unwrap_or_else(|| message_id.clone()),
        payload: Bytes::from(json!({"answers": message_id}).to_string()),
        attributes: Vec::new(),
        trace: None,
        failure: None,
    }
}

pub(crate) fn read(device: &str, message_id: Option<&str>) -> Value {
    let mut command =
        json!({"messageType": "READ_PROPERTY", "productId": "product1", "deviceId": device, "properties": ["sn"]});
    if let Some(message_id) = message_id {
        command["messageId"] = json!(message_id);
    }
    command
}

/// The caller: writes commands, reads outcomes.
pub(crate) struct Caller {
    producer: BaseProducer,
    pub(crate) replies: KafkaReader,
    rejected: KafkaReader,
}

impl Caller {
    pub(crate) fn new(kafka: &Kafka) -> Self {
        let producer = kafka.client().set("acks", "all").create().expect("the client's settings are right");
        let settings = settings(kafka, None).kafka;
        let open = |topic| KafkaReader::open(&settings, topic, ReadFrom::Now).expect("the topic is there");
        Self { producer, replies: open(REPLIES), rejected: open(REJECTED) }
    }

    pub(crate) fn write(&self, key: &str, value: &str) {
        self.write_at(now_ms(), None, key, value);
    }

    pub(crate) fn write_at(&self, written_ms: i64, partition: Option<i32>, key: &str, value: &str) {
        let mut record = BaseRecord::to(COMMANDS).key(key).payload(value).timestamp(written_ms);
        if let Some(partition) = partition {
            record = record.partition(partition);
        }
        self.producer.send(record).map_err(|(error, _)| error).expect("there is room");
    }

    pub(crate) fn write_with_header(&self, (name, value): (&str, &str), key: &str, command: &str) {
        let headers = OwnedHeaders::new().insert(Header { key: name, value: Some(value) });
        let record = BaseRecord::to(COMMANDS).key(key).payload(command).headers(headers).timestamp(now_ms());
        self.producer.send(record).map_err(|(error, _)| error).expect("there is room");
    }

    pub(crate) fn command(&self, device: &str, message_id: &str) {
        self.write(device, &read(device, Some(message_id)).to_string());
    }

    pub(crate) fn flush(&self) {
        self.producer.flush(PATIENCE).expect("the broker takes the commands");
    }

    pub(crate) async fn outcome(&mut self) -> Stored {
        self.flush();
        next(&mut self.replies).await
    }

    /// The next record of what could not be read.
    pub(crate) async fn rejected(&mut self) -> Stored {
        self.flush();
        next(&mut self.rejected).await
    }

    /// The next outcome, which is a failure with that code.
    pub(crate) async fn failure(&mut self, code: &str) -> Value {
        let stored = self.outcome().await;
        let envelope: Value = serde_json::from_slice(&stored.payload).expect("envelopes are JSON");
        assert_eq!(envelope["data"]["code"], code, "{envelope}");
        assert_eq!((&envelope["origin"], &envelope["data"]["success"]), (&json!("bridge"), &json!(false)));
        envelope
    }
}

/// The next record, whatever the broker goes through meanwhile.
async fn next(reader: &mut KafkaReader) -> Stored {
    loop {
        match tokio::time::timeout(PATIENCE, reader.next()).await.expect("a record in time") {
            Ok(stored) => return stored.expect("the reader has no end"),
            Err(ReadError::Waiting(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) fn answers(stored: &Stored) -> String {
    let value: Value = serde_json::from_slice(&stored.payload).expect("outcomes are JSON");
    value["answers"].as_str().unwrap_or_else(|| panic!("no reply: {value}")).to_owned()
}

/// The offsets that the group has committed, by partition; without those that it has not.
pub(crate) fn committed(kafka: &Kafka, partitions: i32) -> BTreeMap<i32, i64> {
    let consumer: BaseConsumer = kafka.client().set("group.id", "jetlinks-bridge").create().expect("right settings");
    let mut asked = TopicPartitionList::new();
    asked.add_partition_range(COMMANDS, 0, partitions - 1);
    let found = consumer.committed_offsets(asked, PATIENCE).expect("the broker answers");
    let offsets = found.elements_for_topic(COMMANDS).into_iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    offsets.collect()
}

pub(crate) async fn until_committed(kafka: &Kafka, total: i64) {
    until_committed_in(kafka, 1, total).await;
}

/// As [`until_committed`], of a topic of so many partitions; `total` is the sum over them.
pub(crate) async fn until_committed_in(kafka: &Kafka, partitions: i32, total: i64) {
    let reached = async {
        while committed(kafka, partitions).values().sum::<i64>() != total {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the offset is committed");
}

/// Another replica that holds a device.
pub(crate) async fn holder(nats: &Nats, product: &str, device: &str) -> (NatsDownlink, mpsc::Receiver<DownlinkEvent>) {
    let (sender, mut events) = mpsc::channel(64);
    let mut downlink = NatsDownlink::start(&NatsSettings::new(vec![nats.url()]), sender, Arc::default())
        .expect("the settings are right");
    let address = (ProductId::new(product).expect("an id"), DeviceId::new(device).expect("an id"));
    downlink.attach(SlotId { index: 1, generation: 0 }, &[address]);
    assert!(matches!(events.recv().await, Some(DownlinkEvent::Attached(_))));
    (downlink, events)
}

pub(crate) async fn held(events: &mut mpsc::Receiver<DownlinkEvent>) -> Given {
    match tokio::time::timeout(PATIENCE, events.recv()).await.expect("a command in time") {
        Some(DownlinkEvent::Command { ticket: Some(ticket), command, .. }) => {
            Given { ticket, command: command.expect("a readable command") }
        }
        other => panic!("{other:?}"),
    }
}
