//! Records to a real JetStream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use jetlinks_bridge::protocol::uplink::{Availability, DeliveryId, Inbox, Receipt, RecordRefusal, SlotId, Uplink};
use jetlinks_bridge::queue::nats::{NatsReader, NatsSettings, NatsStats, NatsUplink};
use jetlinks_bridge::queue::{Position, ReadError, ReadFrom};

use super::log::Log;
use super::sessions::{Sessions, assert_stored_in_order};
use super::support::{Nats, caller};
use super::worker;

struct Fixture {
    uplink: NatsUplink,
    sessions: Sessions,
    stats: Arc<NatsStats>,
    settings: NatsSettings,
}

fn start(url: String, sessions: usize, window: usize) -> Fixture {
    let settings = NatsSettings::new(vec![url]);
    let (inbox, stats) = (Arc::new(Inbox::new()), Arc::new(NatsStats::default()));
    let uplink = NatsUplink::start(&settings, Arc::clone(&inbox), Arc::clone(&stats)).expect("the settings are right");
    Fixture { uplink, sessions: Sessions::new(inbox, sessions, window), stats, settings }
}

/// Records of sessions in the stream, in stored order.
async fn stored(settings: &NatsSettings) -> Vec<Vec<u8>> {
    let client = caller::client(settings.servers[0].as_str()).await;
    let stream = caller::jetstream(client).get_stream(&settings.stream).await.expect("the stream exists");
    let state = stream.cached_info().state.clone();
    let mut payloads = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.expect("nothing was removed");
        if message.subject.starts_with("jetlinks.device.") {
            payloads.push(message.payload.to_vec());
        }
    }
    payloads
}

#[test]
fn a_record_is_in_the_stream_when_its_receipt_says_so() {
    let nats = Nats::start();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, stats, settings } = start(nats.url(), 3, 64);
        sessions.until_available(&mut uplink).await;
        assert_eq!(uplink.max_payload(), Some(1024 * 1024));
        sessions.send_until_stored(&mut uplink, 10).await;
        assert_eq!(sessions.stored_of(2), (0..10).collect::<Vec<_>>());
        assert_eq!(stats.stored.load(Ordering::Relaxed), 30 + sessions.proofs as u64);
        assert_stored_in_order(stored(&settings).await.into_iter(), 3, 10);
        assert_eq!(stored(&settings).await.len(), 30);
    });
    let subject = "jetlinks.device.product1.device0.event.e";
    let sent = nats.run_cli(&["stream", "get", "JETLINKS_DEVICE", "--last-for", subject]);
    let text = String::from_utf8_lossy(&sent.stdout).into_owned();
    assert!(text.contains(subject), "{text}");
    assert!(text.to_lowercase().contains("content-type: application/cloudevents+json"), "{text}");
}

#[test]
fn no_acknowledgement_is_lost_among_fifty_thousand() {
    let nats = Nats::start();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, stats, .. } = start(nats.url(), 500, 50);
        sessions.until_available(&mut uplink).await;
        sessions.send_until_stored(&mut uplink, 100).await;
        assert_eq!((sessions.repeated, sessions.failed, sessions.refused), (0, 0, 0));
        assert_eq!(stats.stored.load(Ordering::Relaxed), 50_000 + sessions.proofs as u64);
        assert_eq!(sessions.report.epoch, 1);
    });
}

#[test]
fn a_server_that_is_killed_with_records_under_way_gets_them_again_in_order() {
    let mut nats = Nats::start();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, settings, .. } = start(nats.url(), 50, 64);
        sessions.until_available(&mut uplink).await;
        sessions.send_until_stored(&mut uplink, 20).await;
        sessions.send(&mut uplink, 80);
        nats.kill9();
        sessions.until_report(&mut uplink, |report| report.availability == Availability::Away).await;
        sessions.send(&mut uplink, 90);
        let nats = worker::aside(move || {
            nats.restart();
            nats
        })
        .await;
        sessions.until_report(&mut uplink, |report| report.availability == Availability::Ok).await;
        assert!(sessions.report.epoch >= 2);
        sessions.send_until_stored(&mut uplink, 200).await;
        assert_stored_in_order(stored(&settings).await.into_iter(), 50, 200);
        drop(nats);
    });
}

#[test]
fn a_server_that_comes_later_than_the_bridge_is_found() {
    let mut nats = Nats::start();
    nats.kill9();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, .. } = start(nats.url(), 1, 64);
        sessions.send(&mut uplink, 1);
        assert_eq!(sessions.refused, 1);
        assert_eq!(sessions.inbox.availability(), Availability::Starting);
        let nats = worker::aside(move || {
            nats.restart();
            nats
        })
        .await;
        sessions.send_until_stored(&mut uplink, 5).await;
        assert_eq!(sessions.report.epoch, 1);
        drop(nats);
    });
}

#[test]
fn a_stream_deleted_under_way_is_made_again_and_gets_what_failed() {
    let nats = Nats::start();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, settings, .. } = start(nats.url(), 4, 64);
        sessions.until_available(&mut uplink).await;
        sessions.send_until_stored(&mut uplink, 5).await;
        let client = caller::client(&nats.url()).await;
        caller::jetstream(client).delete_stream(&settings.stream).await.expect("the stream exists");
        sessions.send_until_stored(&mut uplink, 10).await;
        assert!(sessions.report.epoch >= 2);
        let numbers = stored(&settings).await.len();
        assert!(numbers >= 20, "{numbers}");
    });
}

#[test]
fn a_frozen_server_makes_the_queue_away_and_is_trusted_again_when_it_answers() {
    let nats = Nats::start();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, settings, stats } = start(nats.url(), 10, 64);
        sessions.until_available(&mut uplink).await;
        sessions.send_until_stored(&mut uplink, 5).await;
        nats.process().signal(libc::SIGSTOP);
        sessions.send(&mut uplink, 50);
        sessions.until_report(&mut uplink, |report| report.availability == Availability::Away).await;
        assert_eq!(stats.stalls.load(Ordering::Relaxed), 1);
        nats.process().signal(libc::SIGCONT);
        sessions.send_until_stored(&mut uplink, 60).await;
        assert_stored_in_order(stored(&settings).await.into_iter(), 10, 60);
    });
}

#[test]
fn an_existing_stream_keeps_its_settings_and_one_that_lacks_subjects_is_not_used() {
    let nats = Nats::start();
    let add = |subjects: &str| {
        let arguments = ["stream", "add", "JETLINKS_DEVICE", "--subjects", subjects, "--max-age", "1h", "--defaults"];
        assert!(nats.run_cli(&arguments).status.success());
    };
    add("jetlinks.device.>");
    worker::run(async {
        let Fixture { mut uplink, mut sessions, settings, .. } = start(nats.url(), 1, 64);
        let client = caller::client(&nats.url()).await;
        let (watcher, context) = (client.clone(), caller::jetstream(client));
        let mut looks = watcher.subscribe("$JS.API.STREAM.INFO.JETLINKS_DEVICE").await.expect("the server is there");
        for _ in 0..3 {
            looks.next().await.expect("the bridge goes on looking at the stream");
        }
        assert_eq!(sessions.inbox.availability(), Availability::Starting);
        assert!(
            nats.run_cli(&["stream", "edit", "JETLINKS_DEVICE", "--subjects", "jetlinks.>", "-f"]).status.success()
        );
        sessions.send_until_stored(&mut uplink, 2).await;
        let stream = context.get_stream(&settings.stream).await.expect("the stream exists");
        assert_eq!(stream.cached_info().config.max_age.as_secs(), 3600);
    });
}

#[test]
fn a_record_above_the_servers_limit_is_refused_alone() {
    let nats = Nats::start();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, .. } = start(nats.url(), 1, 64);
        sessions.until_available(&mut uplink).await;
        let mut record = Sessions::record(0, 0);
        record.payload = vec![b'x'; 2 * 1024 * 1024].into();
        let id = DeliveryId { slot: SlotId { index: 0, generation: 9 }, sequence: 9 };
        uplink.publish(id, &record);
        while sessions.unstorable.is_empty() {
            sessions.turn(&mut uplink).await;
        }
        let refusal =
            RecordRefusal::TooLarge("2097208 bytes with headers, the server takes 1048576 (max_payload)".to_owned());
        assert_eq!(sessions.unstorable, [(id, refusal)]);
        assert_eq!(sessions.report.availability, Availability::Ok);
        assert_eq!(sessions.report.epoch, 1);
        let other = Sessions::record(1, 0);
        uplink.publish(DeliveryId { slot: SlotId { index: 1, generation: 9 }, sequence: 9 }, &other);
        let mut receipts = Vec::new();
        std::future::poll_fn(|cx| sessions.inbox.poll_take(cx, &mut receipts)).await;
        assert_eq!(receipts, [Receipt::Stored(DeliveryId { slot: SlotId { index: 1, generation: 9 }, sequence: 9 })]);
    });
}

#[test]
fn binary_mode_puts_the_attributes_into_headers() {
    let nats = Nats::start();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, settings, stats } = start(nats.url(), 1, 64);
        sessions.until_available(&mut uplink).await;
        let mut record = Sessions::record(0, 0);
        record.attributes = vec![("id", "01J".to_owned()), ("subject", "温度".to_owned())];
        uplink.publish(DeliveryId { slot: SlotId { index: 0, generation: 1 }, sequence: 0 }, &record);
        while stats.stored.load(Ordering::Relaxed) <= sessions.proofs as u64 {
            sessions.turn(&mut uplink).await;
        }
        let client = caller::client(&nats.url()).await;
        let stream = caller::jetstream(client).get_stream(&settings.stream).await.expect("it exists");
        let subject = std::str::from_utf8(&record.address).expect("a subject is UTF-8");
        let headers = stream.get_last_raw_message_by_subject(subject).await.expect("it is stored").headers;
        assert_eq!(headers.get("ce-id").map(|v| v.as_str()), Some("01J"));
        assert_eq!(headers.get("ce-subject").map(|v| v.as_str()), Some("%E6%B8%A9%E5%BA%A6"));
        assert_eq!(headers.get("content-type").map(|v| v.as_str()), Some("application/json"));
    });
}

#[test]
fn a_reader_gives_what_is_stored_in_order_and_then_what_comes() {
    let nats = Nats::start();
    worker::run(async {
        let missing = NatsReader::open(&NatsSettings::new(vec![nats.url()]), "", ReadFrom::Beginning).await.err();
        assert_eq!(missing, Some(ReadError::Missing("stream JETLINKS_DEVICE".to_owned())));
        let Fixture { mut uplink, mut sessions, settings, .. } = start(nats.url(), 2, 64);
        sessions.until_available(&mut uplink).await;
        let mut empty = NatsReader::open(&settings, "", ReadFrom::Beginning).await.expect("the stream is there");
        let proofs = sessions.proofs as u64;
        for _ in 0..proofs {
            let stored = empty.next().await.expect("the stream stays").expect("there is more");
            assert_eq!(stored.address, "jetlinks.bridge.replica.test");
        }
        assert_eq!(empty.next().await, Ok(None));
        sessions.send_until_stored(&mut uplink, 600).await;
        let mut live = NatsReader::open(&settings, "device.>", ReadFrom::Now).await.expect("the stream is there");
        let mut reader =
            NatsReader::open(&settings, "device.>", ReadFrom::Beginning).await.expect("the stream is there");
        let mut one = NatsReader::open(&settings, "device.product1.device1.>", ReadFrom::Beginning).await.expect("it");
        for sequence in 1..=1200 {
            let stored = reader.next().await.expect("the stream stays").expect("there is more");
            assert_eq!(stored.place, Position::Sequence(proofs + sequence));
            assert_eq!(stored.content_type.as_deref(), Some("application/cloudevents+json"));
        }
        assert_eq!(reader.next().await, Ok(None));
        let mut count = 0;
        while let Some(stored) = one.next().await.expect("the stream stays") {
            assert_eq!(stored.address, "jetlinks.device.product1.device1.event.e");
            count += 1;
        }
        assert_eq!(count, 600);
        sessions.send_until_stored(&mut uplink, 601).await;
        assert_eq!(
            live.next().await.map(|stored| stored.map(|stored| stored.place)),
            Ok(Some(Position::Sequence(proofs + 1201)))
        );
        let away = NatsSettings::new(vec!["nats://127.0.0.1:9".to_owned()]);
        assert!(matches!(NatsReader::open(&away, "", ReadFrom::Now).await, Err(ReadError::Unreachable(_))));
    });
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test owns the clock, and the server has the same one")]
fn a_reader_from_a_time_on_gives_what_was_stored_since_and_ends() {
    let nats = Nats::start();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, settings, .. } = start(nats.url(), 2, 64);
        sessions.send_until_stored(&mut uplink, 50).await;
        let time = SystemTime::now();
        sessions.send_until_stored(&mut uplink, 80).await;
        let open = |time| NatsReader::open(&settings, "device.>", ReadFrom::Time(time));
        let mut reader = open(time).await.expect("the stream is there");
        let first = sessions.proofs as u64 + 101;
        for sequence in first..first + 60 {
            let stored = reader.next().await.expect("the stream stays").expect("there is more");
            assert_eq!(stored.place, Position::Sequence(sequence));
        }
        assert_eq!(reader.next().await, Ok(None));
        let mut later = open(SystemTime::now() + Duration::from_secs(60)).await.expect("the stream is there");
        assert_eq!(later.next().await, Ok(None));
    });
}

#[test]
fn a_server_that_is_about_to_leave_is_named_before_it_does() {
    let nats = Nats::configured("lame_duck_duration: 60s\nlame_duck_grace_period: 50s\n");
    worker::run(async {
        let (log, _guard) = Log::start();
        let Fixture { mut uplink, mut sessions, .. } = start(nats.url(), 2, 64);
        sessions.send_until_stored(&mut uplink, 10).await;
        nats.process().signal(libc::SIGUSR2);
        let told = || log.lines(&["INFO", "the NATS server is about to leave", "role=\"uplink\""]);
        worker::until(async || told() == 1).await;
        assert_eq!(log.lines(&["lost the connection"]), 0);
    });
}
