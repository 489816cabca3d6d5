//! Records that somebody else than the stream answers, too.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use jetlinks_bridge::protocol::uplink::Inbox;
use jetlinks_bridge::queue::nats::{NatsSettings, NatsStats, NatsUplink};

use super::sessions::Sessions;
use super::support::{Leaf, Nats, caller};
use super::worker;

struct Fixture {
    uplink: NatsUplink,
    sessions: Sessions,
    stats: Arc<NatsStats>,
    client: Client,
}

async fn start(url: String, sessions: usize) -> Fixture {
    let client = caller::client(&url).await;
    let settings = NatsSettings::new(vec![url]);
    let (inbox, stats) = (Arc::new(Inbox::new()), Arc::new(NatsStats::default()));
    let uplink = NatsUplink::start(&settings, Arc::clone(&inbox), Arc::clone(&stats)).expect("the settings are right");
    Fixture { uplink, sessions: Sessions::new(inbox, sessions, 64), stats, client }
}

async fn in_stream(client: &Client) -> u64 {
    let stream = caller::jetstream(client.clone()).get_stream("JETLINKS_DEVICE").await;
    stream.map_or(0, |stream| stream.cached_info().state.messages)
}

#[test]
fn what_a_subscriber_answers_has_no_effect_on_any_record() {
    let nats = Nats::start();
    worker::run(async {
        let Fixture { mut uplink, mut sessions, stats, client } = start(nats.url(), 3).await;
        let answers: [&[u8]; 7] = [
            b"",
            b"ok",
            br#"{"stream":"OTHER","seq":1}"#,
            br#"{"stream":"JETLINKS_DEVICE","domain":"other","seq":1}"#,
            br#"{"error":{"code":503,"err_code":10077,"description":"full"},"stream":"OTHER","seq":0}"#,
            br#"{"error":{"code":400,"err_code":10054,"description":"too large"}}"#,
            br#"{"stream":"JETLINKS_DEVICE"}"#,
        ];
        let (answering, mut records) =
            (client.clone(), client.subscribe("jetlinks.device.>").await.expect("it is there"));
        client.flush().await.expect("the server is there");
        tokio::task::spawn_local(async move {
            while let Some(record) = records.next().await {
                let Some(reply) = record.reply else { continue };
                for answer in answers {
                    let _ended = answering.publish(reply.clone(), answer.into()).await;
                }
                let mut headers = HeaderMap::new();
                headers.insert("x", "y");
                let _ended = answering.publish_with_headers(reply, headers, "no".into()).await;
            }
        });
        sessions.until_available(&mut uplink).await;
        sessions.send_until_stored(&mut uplink, 100).await;
        assert_eq!((sessions.failed, sessions.repeated, sessions.report.epoch), (0, 0, 1));
        assert!(in_stream(&client).await >= 300);
        let foreign = &stats.foreign_acknowledgements;
        while foreign.load(Ordering::Relaxed) < 300 * 8 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_stream_of_another_domain_acknowledges_nothing_and_a_lost_stream_is_made_again() {
    let Leaf { hub, leaf } = Leaf::with_jetstream();
    worker::run(async {
        let edge = ["stream", "add", "EDGE", "--subjects", "jetlinks.device.>", "--defaults"];
        assert!(leaf.run_cli(&edge).status.success());
        let Fixture { mut uplink, mut sessions, stats, client } = start(hub.url(), 4).await;
        sessions.until_available(&mut uplink).await;
        sessions.send_until_stored(&mut uplink, 10).await;
        let context = caller::jetstream(client.clone());
        context.delete_stream("JETLINKS_DEVICE").await.expect("the stream exists");
        sessions.send_until_stored(&mut uplink, 20).await;
        assert!(sessions.report.epoch >= 2, "the loss of the stream was noticed");
        assert!(in_stream(&client).await >= 40, "what was acknowledged is there");
        assert!(stats.foreign_acknowledgements.load(Ordering::Relaxed) > 0);

        // 40 were lost with the stream, and it takes 60 now: not one more is acknowledged, whatever the other one says.
        let full = ["stream", "edit", "JETLINKS_DEVICE", "--max-msgs", "60", "--discard", "new", "-f"];
        assert!(hub.run_cli(&full).status.success());
        while in_stream(&client).await < 60 {
            sessions.send(&mut uplink, 40);
            sessions.turn(&mut uplink).await;
        }
        let stored = |sessions: &Sessions| (0..4).map(|slot| sessions.stored_of(slot).len()).sum::<usize>();
        sessions.send(&mut uplink, 60);
        let full_at = sessions.report.epoch;
        while sessions.report.epoch < full_at + 5 {
            sessions.turn(&mut uplink).await;
            assert!(stored(&sessions) <= 40 + 60, "{} are acknowledged", stored(&sessions));
        }
        let wide = ["stream", "edit", "JETLINKS_DEVICE", "--max-msgs", "1000", "-f"];
        assert!(hub.run_cli(&wide).status.success());
        sessions.send_until_stored(&mut uplink, 60).await;
    });
}

#[test]
fn a_stream_of_the_same_name_in_another_domain_decides_about_no_record() {
    let Leaf { hub, leaf } = Leaf::with_jetstream();
    worker::run(async {
        let namesake = ["stream", "add", "JETLINKS_DEVICE", "--subjects", "jetlinks.>", "--max-msgs", "50"];
        assert!(leaf.run_cli(&[&namesake[..], &["--discard", "new", "--defaults"]].concat()).status.success());
        let settings = NatsSettings { domain: Some("hub".to_owned()), ..NatsSettings::new(vec![leaf.url()]) };
        let (inbox, stats) = (Arc::new(Inbox::new()), Arc::new(NatsStats::default()));
        let mut uplink = NatsUplink::start(&settings, Arc::clone(&inbox), Arc::clone(&stats)).expect("right settings");
        let mut sessions = Sessions::new(inbox, 4, 64);
        // The leaf acknowledges the first fifty and refuses every other one, before the hub has it.
        sessions.send_until_stored(&mut uplink, 100).await;
        sessions.send_until_stored(&mut uplink, 300).await;
        // It takes a refusal of a record that is stored to know the leaf; until then its refusals begin an epoch.
        let epoch = sessions.report.epoch;
        assert!(epoch <= 3, "{epoch} epochs: its refusals went on to count");
        assert_eq!(sessions.unstorable.len(), 0);
        let client = caller::client(&hub.url()).await;
        assert!(in_stream(&client).await >= 1200);
        assert!(stats.foreign_acknowledgements.load(Ordering::Relaxed) > 500);
    });
}
