//! Rights that the server takes by a reload and gives back, on connections that stay.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jetlinks_bridge::protocol::downlink::{Downlink, DownlinkEvent};
use jetlinks_bridge::protocol::id::{DeviceId, ProductId};
use jetlinks_bridge::protocol::uplink::{Availability, Inbox, SlotId};
use jetlinks_bridge::queue::nats::{NatsDownlink, NatsSettings, NatsStats, NatsUplink};
use tokio::sync::mpsc;

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

/// Sessions on one connection for commands, by number.
struct Attached {
    downlink: NatsDownlink,
    events: mpsc::Receiver<DownlinkEvent>,
    stats: Arc<NatsStats>,
}

impl Attached {
    fn start(nats: &Nats) -> Self {
        let settings = NatsSettings::new(vec![format!("nats://bridge:secret@{}", nats.address())]);
        let (sender, events) = mpsc::channel(1024);
        let stats = Arc::<NatsStats>::default();
        let downlink = NatsDownlink::start(&settings, sender, Arc::clone(&stats)).expect("right settings");
        Self { downlink, events, stats }
    }

    fn session(number: u32) -> SlotId {
        SlotId { index: number, generation: 0 }
    }

    /// Attaches these sessions at once, and waits until each is let in.
    async fn attach(&mut self, numbers: std::ops::Range<u32>) {
        for number in numbers.clone() {
            let device = DeviceId::new(&format!("device{number}")).expect("an id");
            let product = ProductId::new("product1").expect("an id");
            self.downlink.attach(Self::session(number), &[(product, device)]);
        }
        for _session in numbers {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("each is let in in time");
            assert!(matches!(event, Some(DownlinkEvent::Attached(_))), "{event:?}");
        }
    }

    /// Interests that were not proved so far, and those that are refused at this moment.
    fn counts(&self) -> (u64, u64) {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.stats.unconfirmed_interests), read(&self.stats.refused_interests))
    }

    async fn wait_for(&self, availability: Availability, refused: u64) {
        let wait = async {
            while (self.downlink.availability(), self.counts().1) != (availability, refused) {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{:?} {:?}", self.downlink.availability(), self.counts());
    }
}

#[test]
fn an_interest_that_the_server_refuses_is_not_proved_and_counts_until_it_is_taken_or_not_wanted_any_more() {
    let nats = Arc::new(Nats::configured(&permitted("\"jetlinks.command.product1.device1.>\"")));
    worker::run(async {
        let (log, _guard) = Log::start();
        let mut commands = Attached::start(&nats);
        commands.wait_for(Availability::Ok, 0).await;
        commands.attach(2..5).await;
        assert_eq!(commands.counts(), (0, 0));
        commands.attach(0..2).await;
        assert_eq!(commands.counts(), (1, 1), "device1 alone");
        assert_eq!(commands.downlink.availability(), Availability::Away);
        let server = Arc::clone(&nats);
        worker::aside(move || server.reload(&permitted("\"jetlinks.command.>\""))).await;
        commands.wait_for(Availability::Away, 5).await;
        assert_eq!(commands.counts().0, 1, "the others began with proof");
        commands.attach(5..25).await;
        assert_eq!(commands.counts(), (21, 25));
        (20..25).for_each(|number| commands.downlink.detach(Attached::session(number)));
        assert_eq!(commands.counts(), (21, 20));
        let server = Arc::clone(&nats);
        worker::aside(move || server.reload(&permitted(""))).await;
        commands.wait_for(Availability::Ok, 0).await;
        commands.attach(20..25).await;
        assert_eq!(commands.counts(), (21, 0));
        assert_eq!(log.lines(&["lost the connection to NATS"]), 0);
    });
}

#[test]
fn of_more_refusals_at_once_than_the_client_tells_of_none_is_taken_for_proved() {
    let nats = Nats::configured(&permitted("\"jetlinks.command.>\""));
    worker::run(async {
        let (log, _guard) = Log::start();
        let mut commands = Attached::start(&nats);
        commands.wait_for(Availability::Ok, 0).await;
        commands.attach(0..1_000).await;
        let (unproved, refused) = commands.counts();
        assert_eq!(unproved, 1_000);
        assert!((100..=1_000).contains(&refused), "{refused}");
        assert!(log.lines(&["WARN", "NATS connection trouble", "jetlinks.command.product1."]) > 0);
    });
}
