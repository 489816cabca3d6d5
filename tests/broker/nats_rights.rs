//! Rights that the server takes by a reload and gives back, on connections that stay.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jetlinks_bridge::protocol::uplink::Inbox;
use jetlinks_bridge::queue::nats::{NatsSettings, NatsUplink};

use super::log::Log;
use super::sessions::Sessions;
use super::support::{Nats, eventually, http};
use super::worker::{self, PATIENCE};

fn permitted(denied: &str) -> String {
    format!(
        "authorization {{ users: [ {{ user: bridge, password: secret, permissions: {{
            publish: \">\", subscribe: {{ allow: \">\", deny: [{denied}] }} }} }} ] }}\n"
    )
}

/// Connections that the server has seen.
fn connections(nats: &Nats) -> u64 {
    let page = http::get(nats.monitoring(), "/varz").expect("the server has its pages").body;
    let page: serde_json::Value = serde_json::from_str(&page).expect("the page is JSON");
    page["total_connections"].as_u64().expect("the page counts connections")
}

#[test]
fn acknowledgements_are_heard_again_on_the_same_connection_when_the_right_is_given_back() {
    let nats = Arc::new(Nats::configured(&permitted("")));
    worker::run(async {
        let (log, _guard) = Log::start();
        let settings = NatsSettings::new(vec![format!("nats://bridge:secret@{}", nats.address())]);
        let (inbox, stats) = (Arc::new(Inbox::new()), Arc::default());
        let mut uplink = NatsUplink::start(&settings, Arc::clone(&inbox), Arc::clone(&stats)).expect("right settings");
        let mut sessions = Sessions::new(inbox, 2, 64);
        sessions.send_until_stored(&mut uplink, 10).await;
        let stored = stats.stored.load(Ordering::Relaxed);
        let before = connections(&nats);
        for (round, total) in [(1, 20), (2, 30)] {
            let server = Arc::clone(&nats);
            worker::aside(move || {
                server.reload(&permitted("\"_INBOX.>\""));
                // Once by the reload, and twice when it is asked for again.
                let refused = || server.log().matches("Subscription Violation").count();
                let known = refused();
                eventually("it is asked for again", PATIENCE, || (refused() >= known + 2).then_some(()));
                server.reload(&permitted(""));
            })
            .await;
            sessions.send_until_stored(&mut uplink, total).await;
            let told = || log.lines(&["INFO", "takes the subscription again", "_INBOX."]);
            while told() < 2 * round {
                tokio::task::yield_now().await;
            }
            // Of acknowledgements and of answers to requests: told once for each time, not for each attempt.
            let refusals = log.lines(&["NATS connection trouble", "Permissions Violation for Subscription", "_INBOX."]);
            assert_eq!((refusals, told()), (2 * round, 2 * round));
        }
        assert!(stats.stored.load(Ordering::Relaxed) > stored);
        assert_eq!(connections(&nats), before, "no other connection was needed");
    });
}
