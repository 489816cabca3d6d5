//! Two replicas that meet the same devices.

use std::time::Duration;

use crate::page::Seen;
use crate::support::wire::Incoming;
use crate::support::{Bridge, Connect, Link, Nats, Registry, Settings, Wire, eventually, http};
use crate::{PATIENCE, wait_counted};

/// Plays the part.
pub(crate) fn play() -> Seen {
    let mut seen = Seen::default();
    let nats = Nats::start();
    let link = Link::to(nats.address());
    let (registry, devices) = Registry::numbered(4);
    let start = |url: String| Bridge::start(&Settings::commands(&registry, &url).text("nats.ping_interval", "1s"));
    let (linked, other) = (start(format!("nats://{}", link.address())), start(nats.url()));
    for replica in [&linked, &other] {
        wait_counted(replica, "part_up", &["coordination"]);
    }

    let mut older = Wire::connect(linked.mqtt(), &devices[0]);
    let _newer = Wire::connect(other.mqtt(), &devices[0]);
    older.wait_closed();
    wait_counted(&linked, "coordination_claims_total", &["yield"]);

    // The claim of the other one waits in the link, before the own one.
    link.silence();
    let mut first = Wire::connect(other.mqtt(), &devices[1]);
    let mut second = Wire::open(linked.mqtt());
    second.send(&Connect::of(&devices[1]).bytes());
    eventually("the second session is about to begin", PATIENCE, || {
        http::get(linked.admin(), "/api/sessions/device2").ok().filter(|answer| answer.status == 200)
    });
    link.heal();
    assert!(matches!(second.next(), Incoming::Packet(_)));
    first.wait_closed();
    wait_counted(&linked, "coordination_claims_total", &["keep"]);

    let mut held = Wire::connect(linked.mqtt(), &devices[2]);
    // Until another claim has come back, the one before may be on its way.
    drop(Wire::connect(other.mqtt(), &devices[3]));
    let moved = Wire::connect(linked.mqtt(), &devices[3]);
    eventually("the claims have crossed", Duration::from_secs(1), || {
        (other.metric("jetlinks_bridge_sessions", &[]) == 1.0).then_some(())
    });
    link.cut();
    wait_counted(&linked, "coordination_outages_total", &[]);
    let _apart = Wire::connect(other.mqtt(), &devices[2]);
    drop(moved);
    let _unproved = Wire::connect(linked.mqtt(), &devices[3]);
    wait_counted(&linked, "commands_unproved_interests_total", &[]);
    link.heal();
    held.wait_closed();
    wait_counted(&other, "coordination_claims_total", &["insist"]);
    seen.scrape(&linked);
    seen.scrape(&other);
    seen
}
