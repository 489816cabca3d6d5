//! Two replicas that meet the same devices.

use crate::page::Seen;
use crate::support::{Bridge, Link, Nats, Registry, Settings, Wire};
use crate::wait_counted;

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    let nats = Nats::start();
    let link = Link::to(nats.address());
    let (registry, devices) = Registry::numbered(3);
    let settings = |url: &str| Settings::commands(&registry, url).text("nats.ping_interval", "1s");
    let start = |url: String| Bridge::start(&settings(&url).text("nats.claim_secret", "secret-of-the-claims"));
    let (linked, other) = (start(format!("nats://{}", link.address())), start(nats.url()));
    for replica in [&linked, &other] {
        wait_counted(replica, "part_up", &["coordination"]);
    }

    let mut older = Wire::connect(linked.mqtt(), &devices[0]);
    let _newer = Wire::connect(other.mqtt(), &devices[0]);
    older.wait_closed();
    wait_counted(&linked, "coordination_claims_total", &["ask"]);
    wait_counted(&linked, "coordination_claims_total", &["yield"]);

    let mut held = Wire::connect(linked.mqtt(), &devices[1]);
    link.cut();
    wait_counted(&linked, "coordination_outages_total", &[]);
    let _apart = Wire::connect(other.mqtt(), &devices[1]);
    let _unproved = Wire::connect(linked.mqtt(), &devices[2]);
    wait_counted(&linked, "commands_unproved_interests_total", &[]);
    link.heal();
    held.wait_closed();
    for role in ["commands", "coordination"] {
        wait_counted(&linked, "nats_reconnects_total", &[role]);
    }
    wait_counted(&other, "coordination_claims_total", &["insist"]);
    let _stranger = Bridge::start(&settings(&nats.url()).text("nats.claim_secret", "secret-of-somebody"));
    let _unsigned = Bridge::start(&settings(&nats.url()));
    nats.run_cli(&["pub", "jetlinks.claim", "nothing that is one"]);
    for reason in ["malformed", "unsigned", "wrong_signature"] {
        wait_counted(&other, "coordination_claims_ignored_total", &[reason]);
    }
    seen.scrape(&linked);
    seen.scrape(&other);
    reconnect(&mut seen);
    seen
}

/// Every connection of a bridge that uses NATS for everything is made again.
fn reconnect(seen: &mut Seen) {
    let mut nats = Nats::start();
    let (nobody, _) = Registry::numbered(0);
    let bridge = Bridge::start(&Settings::nats(&nobody, &nats).text("registry.source", "nats"));
    nats.restart();
    for role in ["uplink", "commands", "coordination", "registry"] {
        wait_counted(&bridge, "nats_reconnects_total", &[role]);
    }
    seen.scrape(&bridge);
}
