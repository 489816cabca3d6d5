//! Packed commands, and batches that cannot be read.

use std::sync::atomic::Ordering;

use jetlinks_bridge::protocol::secret::Secret;
use jetlinks_bridge::queue::kafka::{KafkaReader, KafkaSettings};
use jetlinks_bridge::queue::{Position, ReadError, ReadFrom};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};

use super::kafka_stage::{COMMANDS, Caller, Replica, answers, kafka, read, settings, until_committed_in};
use super::support::registry::now_ms;
use super::support::{Folder, Kafka, Nats, Spoilt};
use super::worker::{self, PATIENCE};

#[test]
fn a_command_packed_with_any_codec_reaches_its_device() {
    let (kafka, nats) = (kafka(1), Nats::start());
    let folder = Folder::new("commands");
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let mut replica = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        for codec in ["gzip", "snappy", "lz4", "zstd"] {
            let mut command = read("device1", Some(codec));
            command["properties"] = json!(vec!["temperature"; 200]);
            let file = folder.write(codec, &command.to_string()).display().to_string();
            let written = kafka.run_kcat(&["-P", "-t", COMMANDS, "-k", "device1", "-z", codec, &file]);
            assert!(written.status.success(), "{written:?}");
            let given = replica.next().await;
            assert_eq!(given.command.message_id.as_deref(), Some(codec));
            replica.answer(&given);
            assert_eq!(answers(&caller.outcome().await), codec);
        }
    });
    // Else nothing was proved: a record that does not shrink is written as it is.
    let segment = std::fs::read(kafka.segment(COMMANDS, 0)).expect("the segment is there");
    assert!(!String::from_utf8_lossy(&segment).contains("temperature\",\"temperature"), "packed");
}

/// Writes commands for device1 in one batch.
fn write_batch(kafka: &Kafka, partition: i32, ids: &[&str]) {
    let mut config = kafka.client();
    config.set("linger.ms", "5000").set("batch.num.messages", ids.len().to_string());
    let producer: BaseProducer = config.create().expect("the client's settings are right");
    for id in ids {
        let command = read("device1", Some(&format!("{id}{partition}"))).to_string();
        let record = BaseRecord::to(COMMANDS).key("device1").payload(&command).partition(partition);
        producer.send(record.timestamp(now_ms())).map_err(|(error, _)| error).expect("there is room");
    }
    producer.flush(PATIENCE).expect("the broker takes the commands");
}

/// In each of three partitions one command, three in a batch that is spoilt, one command.
fn spoilt() -> Kafka {
    let mut kafka = kafka(3);
    for partition in 0..3 {
        write_batch(&kafka, partition, &["before"]);
        write_batch(&kafka, partition, &["spoilt", "spoilt", "spoilt"]);
        write_batch(&kafka, partition, &["behind"]);
    }
    let ways = [(0, Spoilt::Codec(4)), (1, Spoilt::Codec(6)), (2, Spoilt::Records)];
    kafka.spoil(&ways.map(|(partition, how)| (COMMANDS, partition, 1, how)));
    kafka
}

#[test]
fn a_batch_of_commands_that_cannot_be_read_is_skipped_and_told_and_holds_nothing_up() {
    let (kafka, nats) = (spoilt(), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let mut replica = Replica::start(settings(&kafka, Some(&nats)), &["device1"]);
        let mut ids = Vec::new();
        for _ in 0..6 {
            let given = replica.next().await;
            ids.push(given.command.message_id.clone().expect("it has one"));
            replica.answer(&given);
        }
        ids.sort_unstable();
        assert_eq!(ids, ["before0", "before1", "before2", "behind0", "behind1", "behind2"]);
        let mut texts = Vec::new();
        for _ in 0..3 {
            let stored = caller.rejected().await;
            let envelope: Value = serde_json::from_slice(&stored.payload).expect("envelopes are JSON");
            assert_eq!(envelope["type"], "org.jetlinks.bridge.command.failed");
            assert_eq!(envelope["data"]["offset"], 1, "{envelope}");
            texts.push(envelope["data"]["message"].as_str().expect("a text").to_owned());
        }
        texts.sort_unstable();
        for (partition, text) in texts.iter().enumerate() {
            let expected = format!("topic {COMMANDS}: partition {partition}, offsets 1 to 3 cannot be read: ");
            assert!(text.starts_with(&expected), "{text}");
        }
        assert_eq!(replica.stats.skipped_batches.load(Ordering::Relaxed), 3);
        replica.answered(9).await;
        until_committed_in(&kafka, 3, 15).await;
    });
}

#[test]
fn a_reader_names_what_it_cannot_read_and_goes_on_behind_it() {
    let kafka = spoilt();
    let mut settings = KafkaSettings::new(kafka.brokers());
    settings.properties.push(("broker.address.family".to_owned(), Secret::new("v4")));
    worker::run(async {
        let mut reader = KafkaReader::open(&settings, COMMANDS, ReadFrom::Beginning).expect("the topic is there");
        let (mut places, mut parts) = (Vec::new(), Vec::new());
        loop {
            match reader.next().await {
                Ok(Some(stored)) => match stored.place {
                    Position::Partition { partition, offset } => places.push((partition, offset)),
                    Position::Sequence(_) => panic!("{:?}", stored.place),
                },
                Ok(None) => break,
                Err(ReadError::Unreadable(part)) => parts.push(part),
                Err(error) => panic!("{error}"),
            }
        }
        places.sort_unstable();
        assert_eq!(places, [(0, 0), (0, 4), (1, 0), (1, 4), (2, 0), (2, 4)]);
        parts.sort_unstable();
        assert_eq!(parts.len(), 3, "{parts:?}");
        for (partition, part) in parts.iter().enumerate() {
            let expected = format!("topic {COMMANDS}: partition {partition}, offsets 1 to 3 cannot be read: ");
            assert!(part.starts_with(&expected), "{part}");
        }
    });
}
