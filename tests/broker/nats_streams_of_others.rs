//! Streams over the bridge's subjects that somebody makes while the bridge runs.

use std::sync::Arc;
use std::time::Duration;

use jetlinks_bridge::protocol::uplink::Inbox;
use jetlinks_bridge::queue::nats::{NatsDownlink, NatsSettings, NatsStats, NatsUplink};
use tokio::sync::mpsc;

use super::log::Log;
use super::sessions::Sessions;
use super::support::{Leaf, Nats};
use super::worker;

/// The longest that requests of one look may take: three subjects in two domains, two seconds each.
const LOOK: Duration = Duration::from_secs(12);

/// Settings that look for streams all the time.
fn settings(url: String) -> NatsSettings {
    NatsSettings { foreign_streams_every: Duration::from_millis(50), ..NatsSettings::new(vec![url]) }
}

fn cli(nats: &Nats, arguments: &[&str]) {
    let output = nats.run_cli(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
}

async fn until_named(stats: &NatsStats, expected: &[&str]) {
    let named = async {
        while stats.foreign_streams() != expected {
            tokio::task::yield_now().await;
        }
    };
    let named = tokio::time::timeout(worker::PATIENCE, named).await;
    named.unwrap_or_else(|_| panic!("{expected:?} are there, known are {:?}", stats.foreign_streams()));
}

/// Waits until the side has looked several times more: what it would tell each time, it has told by then.
async fn several_looks(nats: &Nats) {
    let looks = || nats.api_requests();
    let before = looks();
    let looked = async {
        while looks() < before + 10 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(worker::PATIENCE, looked).await.expect("streams are looked for all the time");
}

#[test]
fn streams_are_looked_for_so_often_that_each_is_found_within_a_minute() {
    let every = NatsSettings::new(Vec::new()).foreign_streams_every;
    assert!(2 * every + LOOK < Duration::from_secs(65) && every + LOOK < Duration::from_secs(60), "{every:?}");
}

#[test]
fn a_stream_over_commands_that_is_made_while_the_bridge_runs_is_named_once_by_every_replica() {
    let nats = Nats::start();
    worker::run(async {
        let (log, _guard) = Log::start();
        let replicas = [(); 2].map(|()| {
            let (stats, (sender, events)) = (Arc::new(NatsStats::default()), mpsc::channel(16));
            // Two workers each, which share what they have seen.
            let workers = [(); 2].map(|()| {
                NatsDownlink::start(&settings(nats.url()), sender.clone(), Arc::clone(&stats)).expect("right settings")
            });
            (stats, workers, events)
        });
        several_looks(&nats).await;
        for (stats, ..) in &replicas {
            until_named(stats, &[]).await;
        }
        let appeared = ["ERROR", "a stream stores commands", "take these subjects out", "jetlinks.command.>"];
        let told = |name: &str| log.lines(&[&appeared[..], &[name]].concat());
        let gone = |name: &str| log.lines(&["INFO", "does not store these subjects any more", name]);
        assert_eq!(told(""), 0);

        cli(&nats, &["stream", "add", "COMMANDS", "--subjects", "jetlinks.command.product1.>", "--defaults"]);
        for (stats, ..) in &replicas {
            until_named(stats, &["COMMANDS"]).await;
        }
        several_looks(&nats).await;
        assert_eq!((told("COMMANDS"), gone("")), (2, 0));

        cli(&nats, &["stream", "rm", "COMMANDS", "-f"]);
        for (stats, ..) in &replicas {
            until_named(stats, &[]).await;
        }
        // The bridge's own may not either.
        cli(&nats, &["stream", "add", "JETLINKS_DEVICE", "--subjects", "jetlinks.>", "--defaults"]);
        for (stats, ..) in &replicas {
            until_named(stats, &["JETLINKS_DEVICE"]).await;
        }
        several_looks(&nats).await;
        assert_eq!((told("COMMANDS"), gone("COMMANDS"), told("JETLINKS_DEVICE"), gone("")), (2, 2, 2, 2));
    });
}

#[test]
fn a_stream_at_the_leaf_that_takes_copies_is_named_when_it_is_made_and_the_own_one_never() {
    let Leaf { hub, leaf } = Leaf::with_jetstream();
    worker::run(async {
        let (log, _guard) = Log::start();
        let settings = NatsSettings { domain: Some("hub".to_owned()), ..settings(leaf.url()) };
        let (inbox, stats) = (Arc::new(Inbox::new()), Arc::new(NatsStats::default()));
        let mut uplink = NatsUplink::start(&settings, Arc::clone(&inbox), Arc::clone(&stats)).expect("right settings");
        let mut sessions = Sessions::new(inbox, 1, 64);
        sessions.send_until_stored(&mut uplink, 1).await;
        several_looks(&hub).await;
        assert_eq!(stats.foreign_streams(), Vec::<String>::new(), "the bridge's own stream is none of others");
        let told = || log.lines(&["WARN", "another stream stores what devices say", "take these subjects out", "EDGE"]);

        cli(&leaf, &["stream", "add", "EDGE", "--subjects", "jetlinks.device.>", "--no-ack", "--defaults"]);
        until_named(&stats, &["EDGE"]).await;
        several_looks(&leaf).await;
        assert_eq!(told(), 1);
        sessions.send_until_stored(&mut uplink, 2).await;
        cli(&leaf, &["stream", "rm", "EDGE", "-f"]);
        until_named(&stats, &[]).await;
        assert_eq!(log.lines(&["does not store these subjects any more", "EDGE"]), 1);
    });
}

#[test]
fn a_look_that_the_user_has_no_right_to_is_tried_once_on_a_connection() {
    let nats = Nats::configured(
        "authorization { users: [ { user: bridge, password: secret, permissions: {
            publish: { allow: \">\", deny: [\"$JS.API.STREAM.NAMES\"] }, subscribe: \">\" } } ] }\n",
    );
    worker::run(async {
        let (log, _guard) = Log::start();
        let settings = settings(format!("nats://bridge:secret@{}", nats.address()));
        let (inbox, stats) = (Arc::new(Inbox::new()), Arc::new(NatsStats::default()));
        let mut uplink = NatsUplink::start(&settings, Arc::clone(&inbox), Arc::clone(&stats)).expect("right settings");
        let mut sessions = Sessions::new(inbox, 1, 64);
        let refused = || nats.log().matches("Publish Violation").count();
        sessions.send_until_stored(&mut uplink, 1).await;
        while refused() == 0 {
            tokio::task::yield_now().await;
        }
        // The look waits for its answer for two seconds, and the next one follows after 50 ms.
        let again = async {
            while refused() == 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(4), again).await.expect_err("it is not tried again");
        assert_eq!(refused(), 1, "{}", nats.log());
        assert_eq!(stats.foreign_streams(), Vec::<String>::new());
        assert_eq!(log.lines(&["NATS connection trouble", "STREAM.NAMES"]), 1);
    });
}
