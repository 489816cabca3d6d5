//! Records to a server whose connections break at any byte.

use std::sync::Arc;

use jetlinks_bridge::protocol::uplink::Inbox;
use jetlinks_bridge::queue::nats::{NatsSettings, NatsStats, NatsUplink};

use super::nats_model::Model;
use super::sessions::{Sessions, assert_stored_in_order};
use super::worker;

/// Runs; each has its own faults.
const SEEDS: u64 = 16;

/// Connections of a run that break.
const BREAKS: usize = 12;

const SESSIONS: usize = 20;

/// Prints the seed of a run that fails.
struct Seed(u64);

impl Drop for Seed {
    #[expect(clippy::print_stdout, reason = "names the run")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("seed {}", self.0);
        }
    }
}

/// Most of a run is pauses between connections, so all runs go at once.
#[test]
fn wherever_a_connection_breaks_what_is_acknowledged_is_stored_and_in_order() {
    std::thread::scope(|runs| {
        for seed in 0..SEEDS {
            runs.spawn(move || {
                let _seed = Seed(seed);
                worker::run(play(seed));
            });
        }
    });
}

async fn play(seed: u64) {
    let model = Model::start(seed, BREAKS).await;
    let settings = NatsSettings::new(vec![model.url()]);
    let (inbox, stats) = (Arc::new(Inbox::new()), Arc::new(NatsStats::default()));
    let mut uplink = NatsUplink::start(&settings, Arc::clone(&inbox), stats).expect("the settings are right");
    let mut sessions = Sessions::new(inbox, SESSIONS, 64);
    sessions.padding = 8000;
    let mut number = 0;
    while model.connections() <= BREAKS {
        number += 50;
        sessions.send_until_stored(&mut uplink, number).await;
    }
    number += 50;
    sessions.send_until_stored(&mut uplink, number).await;
    for slot in 0..SESSIONS {
        assert_eq!(sessions.stored_of(slot), (0..number).collect::<Vec<_>>());
    }
    assert_stored_in_order(model.stored().into_iter(), SESSIONS, number);
}
