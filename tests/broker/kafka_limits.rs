//! Records, batches, and how much the topics take.

use std::future::poll_fn;
use std::sync::atomic::Ordering;

use jetlinks_bridge::protocol::secret::Secret;
use jetlinks_bridge::protocol::uplink::{Availability, DeliveryId, Receipt, Record, RecordRefusal, SlotId, Uplink};

use super::kafka_stage::{self, Caller, REPLIES, Replica};
use super::kafka_uplink::{Fixture, TOPICS, payloads, settings, start, stored};
use super::sessions::{Sessions, assert_stored_in_order};
use super::support::{Kafka, Nats};
use super::worker;

const LIMIT: &str = "20000";

/// A broker whose topic of records takes batches up to so many bytes, in two partitions.
fn limited(bytes: &str) -> Kafka {
    let kafka = Kafka::start_with_topics(&TOPICS[1..], 1);
    kafka.create_topic_with(TOPICS[0], 2, &[("max.message.bytes", bytes)]);
    kafka
}

#[test]
fn a_topic_with_a_small_limit_takes_what_many_sessions_send_at_once() {
    let kafka = limited(LIMIT);
    worker::run(async {
        let Fixture { mut uplink, mut sessions, stats, settings } = start(settings(&kafka), 100, 20);
        sessions.padding = 900;
        sessions.until_available(&mut uplink).await;
        sessions.send_until_stored(&mut uplink, 40).await;
        assert_eq!((sessions.failed, sessions.repeated, sessions.report.epoch), (0, 0, 1));
        assert_eq!(stats.failed.load(Ordering::Relaxed), 0);
        assert_stored_in_order(
            payloads(stored(&settings, TOPICS[0]).await).filter(|payload| is_session(payload)),
            100,
            40,
        );
    });
}

/// Whether it is of a session, and not a proof that the queue stores records.
fn is_session(payload: &[u8]) -> bool {
    String::from_utf8_lossy(payload).contains("padding")
}

#[test]
fn a_limit_that_is_lowered_makes_batches_smaller_and_the_queue_is_never_away() {
    let kafka = limited("1000000");
    worker::run(async {
        let Fixture { mut uplink, mut sessions, stats, settings } = start(settings(&kafka), 100, 20);
        sessions.padding = 900;
        sessions.until_available(&mut uplink).await;
        sessions.send_until_stored(&mut uplink, 5).await;
        let kafka = worker::aside(move || {
            kafka.set_topic(TOPICS[0], "max.message.bytes", LIMIT);
            kafka
        })
        .await;
        sessions.send_until_stored(&mut uplink, 40).await;
        assert_eq!(sessions.report.availability, Availability::Ok);
        assert!(sessions.report.epoch >= 2, "batches were refused");
        assert_eq!((stats.outages.load(Ordering::Relaxed), stats.stalls.load(Ordering::Relaxed)), (0, 0));
        assert!(sessions.unstorable.is_empty(), "{:?}", sessions.unstorable);
        assert_stored_in_order(
            payloads(stored(&settings, TOPICS[0]).await).filter(|payload| is_session(payload)),
            100,
            40,
        );
        drop(kafka);
    });
}

#[test]
fn a_record_above_the_limit_is_refused_alone_and_a_raised_limit_counts_soon() {
    let kafka = limited(LIMIT);
    worker::run(async {
        // Packed records may become small enough, so the broker judges them; this one does not.
        for codec in ["none", "lz4"] {
            let mut settings = settings(&kafka);
            settings.properties.push(("compression.type".to_owned(), Secret::new(codec)));
            let Fixture { mut uplink, mut sessions, stats, .. } = start(settings, 10, 20);
            sessions.until_available(&mut uplink).await;
            let stored = stats.stored.load(Ordering::Relaxed);
            let (large, id) = (large(30_000), DeliveryId { slot: SlotId { index: 77, generation: 9 }, sequence: 9 });
            uplink.publish(id, &large);
            sessions.send_until_stored(&mut uplink, 20).await;
            while sessions.unstorable.is_empty() {
                sessions.turn(&mut uplink).await;
            }
            let (refused, refusal) = &sessions.unstorable[0];
            assert!(*refused == id && matches!(refusal, RecordRefusal::TooLarge(_)), "{codec}: {refusal:?}");
            assert_eq!((sessions.failed, sessions.repeated, sessions.report.epoch), (0, 0, 1), "{codec}");
            assert_eq!(stats.stored.load(Ordering::Relaxed), stored + 200, "{codec}");
        }
        let Fixture { mut uplink, mut sessions, .. } = start(settings(&kafka), 1, 20);
        sessions.until_available(&mut uplink).await;
        let kafka = worker::aside(move || {
            kafka.set_topic(TOPICS[0], "max.message.bytes", "5000000");
            kafka
        })
        .await;
        // Above what librdkafka takes by itself, too.
        let (large, id) = (large(3_000_000), DeliveryId { slot: SlotId { index: 0, generation: 9 }, sequence: 9 });
        loop {
            uplink.publish(id, &large);
            let mut receipts = Vec::new();
            poll_fn(|cx| sessions.inbox.poll_take(cx, &mut receipts)).await;
            if receipts == [Receipt::Stored(id)] {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(kafka);
    });
}

#[test]
fn outcomes_of_a_batch_that_was_too_large_are_sent_again_in_smaller_ones() {
    let (kafka, nats) = (kafka_stage::kafka(1), Nats::start());
    worker::run(async {
        let mut caller = Caller::new(&kafka);
        let mut settings = kafka_stage::settings(&kafka, Some(&nats));
        settings.kafka.properties.push(("linger.ms".to_owned(), Secret::new("200")));
        let mut replica = Replica::start(settings, &["device1"]);
        caller.command("device1", "before");
        caller.flush();
        let first = replica.next().await;
        replica.answer(&first);
        caller.outcome().await;
        // The limit was asked for by now.
        let kafka = worker::aside(move || {
            kafka.set_topic(REPLIES, "max.message.bytes", LIMIT);
            kafka
        })
        .await;
        let count = 60;
        let mut waiting = Vec::new();
        for number in 0..count {
            caller.command("device1", &number.to_string());
            caller.flush();
            waiting.push(replica.next().await);
        }
        for given in &waiting {
            let mut outcome = kafka_stage::outcome(&given.command);
            let id = given.command.message_id.clone().expect("it has one");
            outcome.payload = format!(r#"{{"answers":"{id}","padding":"{}"}}"#, "x".repeat(900)).into();
            replica.commands.answers().answer(given.ticket, outcome);
        }
        replica.answered(count + 1).await;
        let mut answered = Vec::new();
        for _ in 0..count {
            answered.push(kafka_stage::answers(&caller.outcome().await).parse::<u64>().expect("a number"));
        }
        answered.sort_unstable();
        assert_eq!(answered, (0..count).collect::<Vec<_>>());
        assert_eq!(replica.stats.answers_dropped.load(Ordering::Relaxed), 0);
        assert!(replica.stats.answered_again.load(Ordering::Relaxed) > 0, "no batch was refused");
        drop(kafka);
    });
}

/// A record of so many bytes that nothing makes smaller.
fn large(bytes: usize) -> Record {
    let mut state = 1_u32;
    let mut record = Sessions::record(0, 0);
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    record.payload = noise.take(bytes).collect::<Vec<u8>>().into();
    record
}
