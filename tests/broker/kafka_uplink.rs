//! Records to a real Kafka.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, UNIX_EPOCH};

use jetlinks_bridge::protocol::secret::Secret;
use jetlinks_bridge::protocol::uplink::{Availability, Channel, DeliveryId, Inbox, SlotId, Uplink};
use jetlinks_bridge::queue::kafka::{KafkaError, KafkaReader, KafkaSettings, KafkaStats, KafkaUplink};
use jetlinks_bridge::queue::{Position, ReadError, ReadFrom, Stored};

use super::sessions::{Sessions, assert_stored_in_order};
use super::support::Kafka;
use super::worker;

pub(crate) const TOPICS: [&str; 2] = ["jetlinks.device", "jetlinks.rejected"];

pub(crate) struct Fixture {
    pub(crate) uplink: KafkaUplink,
    pub(crate) sessions: Sessions,
    pub(crate) stats: Arc<KafkaStats>,
    pub(crate) settings: KafkaSettings,
}

pub(crate) fn start(settings: KafkaSettings, sessions: usize, window: usize) -> Fixture {
    let (inbox, stats) = (Arc::new(Inbox::new()), Arc::new(KafkaStats::default()));
    let uplink = KafkaUplink::start(&settings, Arc::clone(&inbox), Arc::clone(&stats)).expect("the settings are right");
    Fixture { uplink, sessions: Sessions::new(inbox, sessions, window), stats, settings }
}

pub(crate) fn settings(kafka: &Kafka) -> KafkaSettings {
    let mut settings = KafkaSettings::new(kafka.brokers());
    settings.properties.push(("broker.address.family".to_owned(), Secret::new("v4")));
    settings
}

/// Everything in a topic, partition by partition in stored order.
pub(crate) async fn stored(settings: &KafkaSettings, topic: &str) -> Vec<Stored> {
    let mut reader = KafkaReader::open(settings, topic, ReadFrom::Beginning).expect("the topic is there");
    let mut all = Vec::new();
    while let Some(stored) = reader.next().await.expect("the broker is there") {
        all.push(stored);
    }
    all
}

pub(crate) fn payloads(stored: Vec<Stored>) -> impl Iterator<Item = Vec<u8>> {
    stored.into_iter().map(|stored| stored.payload.to_vec())
}

#[test]
fn a_record_is_in_its_topic_when_its_receipt_says_so() {
    let kafka = Kafka::start_with_topics(&TOPICS, 3);
    worker::run(async {
        let Fixture { mut uplink, mut sessions, stats, settings } = start(settings(&kafka), 20, 64);
        sessions.send_until_stored(&mut uplink, 10).await;
        assert_eq!(stats.stored.load(Ordering::Relaxed), 200);
        let mut binary = Sessions::record(0, 0);
        binary.channel = Channel::Rejected;
        binary.attributes = vec![("subject", "温度".to_owned()), ("id", "01J".to_owned())];
        uplink.publish(DeliveryId { slot: SlotId { index: 0, generation: 1 }, sequence: 999 }, &binary);
        while stats.stored.load(Ordering::Relaxed) < 201 {
            sessions.turn(&mut uplink).await;
        }
        let device = stored(&settings, TOPICS[0]).await;
        assert_eq!(device.len(), 200);
        assert!(device.iter().all(|stored| stored.content_type.as_deref() == Some("application/cloudevents+json")));
        let partitions = |stored: &Stored| match stored.place {
            Position::Partition { partition, .. } => partition,
            Position::Sequence(_) => panic!("{:?}", stored.place),
        };
        let mut used: Vec<i32> = device.iter().map(partitions).collect();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used, [0, 1, 2], "twenty keys fall into all partitions");
        assert_eq!(device[0].address.as_bytes(), &Sessions::record(slot_of(&device[0]), 0).address[..]);
        assert_stored_in_order(payloads(device), 20, 10);
        let rejected = stored(&settings, TOPICS[1]).await;
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].content_type.as_deref(), Some("application/json"));
        let attributes = [("subject", "温度"), ("id", "01J")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(rejected[0].attributes, attributes);
    });
    let times = kafka.run_kcat(&["-C", "-t", TOPICS[0], "-e", "-q", "-f", "%T %s\n"]);
    let text = String::from_utf8_lossy(&times.stdout).into_owned();
    assert!(text.contains("1700000000007 {\"slot\":3,\"number\":7}"), "{text}");
}

fn slot_of(stored: &Stored) -> usize {
    let value: serde_json::Value = serde_json::from_slice(&stored.payload).expect("payloads are JSON");
    value["slot"].as_u64().expect("a slot") as usize
}

#[test]
fn no_delivery_is_lost_among_fifty_thousand() {
    let kafka = Kafka::start_with_topics(&TOPICS, 3);
    worker::run(async {
        let mut settings = settings(&kafka);
        // Small enough that records wait for room in librdkafka again and again.
        settings.buffer_bytes = 256 * 1024;
        let Fixture { mut uplink, mut sessions, stats, settings } = start(settings, 500, 50);
        sessions.until_available(&mut uplink).await;
        sessions.send_until_stored(&mut uplink, 100).await;
        assert_eq!((sessions.repeated, sessions.failed), (0, 0));
        assert_eq!(stats.stored.load(Ordering::Relaxed), 50_000 + sessions.proofs as u64);
        assert_eq!(sessions.report.epoch, 1);
        assert_eq!(stored(&settings, TOPICS[0]).await.len(), 50_000 + sessions.proofs);
    });
}

#[test]
fn a_broker_that_is_killed_with_records_under_way_gets_them_again_in_order() {
    let mut kafka = Kafka::start_with_topics(&TOPICS, 3);
    worker::run(async {
        let Fixture { mut uplink, mut sessions, settings, .. } = start(settings(&kafka), 50, 64);
        sessions.send_until_stored(&mut uplink, 20).await;
        sessions.send(&mut uplink, 80);
        kafka.kill9();
        sessions.until_report(&mut uplink, |report| report.availability == Availability::Away).await;
        sessions.send(&mut uplink, 90);
        let kafka = worker::aside(move || {
            kafka.restart();
            kafka
        })
        .await;
        sessions.send_until_stored(&mut uplink, 200).await;
        assert!(sessions.report.epoch >= 2);
        assert_stored_in_order(payloads(stored(&settings, TOPICS[0]).await), 50, 200);
        drop(kafka);
    });
}

#[test]
fn a_frozen_broker_makes_the_queue_away_and_is_trusted_again_when_it_answers() {
    let kafka = Kafka::start_with_topics(&TOPICS, 3);
    worker::run(async {
        let Fixture { mut uplink, mut sessions, settings, stats } = start(settings(&kafka), 10, 64);
        sessions.send_until_stored(&mut uplink, 5).await;
        kafka.process().signal(libc::SIGSTOP);
        sessions.send(&mut uplink, 50);
        sessions.until_report(&mut uplink, |report| report.availability == Availability::Away).await;
        assert_eq!(stats.stalls.load(Ordering::Relaxed), 1);
        kafka.process().signal(libc::SIGCONT);
        sessions.send_until_stored(&mut uplink, 60).await;
        assert_stored_in_order(payloads(stored(&settings, TOPICS[0]).await), 10, 60);
    });
}

#[test]
fn missing_topics_are_made_only_if_wanted() {
    let kafka = Kafka::start();
    worker::run(async {
        let settings = settings(&kafka);
        let Fixture { mut uplink, mut sessions, .. } = start(settings.clone(), 1, 64);
        sessions.send(&mut uplink, 1);
        assert_eq!(sessions.inbox.availability(), Availability::Starting);
        let missing = KafkaReader::open(&settings, TOPICS[0], ReadFrom::Beginning).err();
        assert_eq!(missing, Some(ReadError::Missing("topic jetlinks.device".to_owned())));
        let mut making = start(KafkaSettings { create_topics: true, ..settings }, 1, 64);
        making.sessions.send_until_stored(&mut making.uplink, 3).await;
        // The first one finds the topics that the second one made.
        sessions.send_until_stored(&mut uplink, 3).await;
    });
}

#[test]
fn a_property_that_librdkafka_refuses_is_a_mistake_at_start() {
    let mut settings = KafkaSettings::new("127.0.0.1:9".to_owned());
    settings.properties.push(("acks".to_owned(), Secret::new("1")));
    let mistake = KafkaUplink::start(&settings, Arc::default(), Arc::default()).err();
    assert!(matches!(&mistake, Some(KafkaError::Reserved(name, _)) if name == "acks"), "{mistake:?}");
    let mut with_authority = |file: &str| {
        settings.properties = vec![("ssl.ca.location".to_owned(), Secret::new(file))];
        settings.properties.push(("security.protocol".to_owned(), Secret::new("ssl")));
        KafkaUplink::start(&settings, Arc::default(), Arc::default()).err()
    };
    let missing = with_authority("/nonexistent/ca.pem");
    assert!(matches!(&missing, Some(KafkaError::Properties(wrong)) if wrong[0].0 == "ssl.ca.location"), "{missing:?}");
    let no_certificate = with_authority(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    assert!(matches!(no_certificate, Some(KafkaError::Client(_))), "{no_certificate:?}");
}

#[test]
fn a_reader_from_a_time_on_gives_what_was_stored_since_and_ends() {
    let kafka = Kafka::start_with_topics(&TOPICS, 3);
    worker::run(async {
        let Fixture { mut uplink, mut sessions, settings, .. } = start(settings(&kafka), 20, 64);
        sessions.send_until_stored(&mut uplink, 10).await;
        sessions.send_until_stored(&mut uplink, 15).await;
        for (number, count) in [(0, 20 * 15), (10, 20 * 5), (15, 0)] {
            // The timestamp of a record is the time at which the bridge took it.
            let time = UNIX_EPOCH + Duration::from_millis(Sessions::record(0, number).recorded_ms);
            let mut reader = KafkaReader::open(&settings, TOPICS[0], ReadFrom::Time(time)).expect("the topic is there");
            let mut read = Vec::new();
            while let Some(stored) = reader.next().await.expect("the broker is there") {
                let value: serde_json::Value = serde_json::from_slice(&stored.payload).expect("payloads are JSON");
                read.push(value["number"].as_u64().expect("a number"));
            }
            assert_eq!(read.len(), count);
            assert!(read.iter().all(|&read| read >= number), "{read:?}");
        }
    });
}
