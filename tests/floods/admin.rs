//! Connections to the admin listener that say nothing, and probes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::flood::{Beside, Flood, counting, per_second};
use crate::support::wire::dial;
use crate::support::{Bridge, Registry, Settings, eventually, http};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn silent_connections_to_the_admin_listener_keep_no_probe_waiting() {
    const OPEN: usize = 300;
    const PROBES: usize = 50;
    let (registry, devices) = Registry::numbered(1);
    let bridge = Bridge::start(&Settings::stdio(&registry));
    let beside = Beside::start(bridge.mqtt(), &devices[0]);
    let admin = bridge.admin();
    let mut open: VecDeque<_> = (0..OPEN).map(|_| dial(admin)).collect();
    let flood = Flood::start(40.0, move |_| {
        open.push_back(dial(admin));
        open.pop_front();
    });
    let probe = |number| {
        eventually("another one came", PATIENCE, || (flood.count() > number).then_some(()));
        let begun = Instant::now();
        assert_eq!(http::get(admin, "/livez").unwrap().status, 200);
        begun.elapsed()
    };
    let served = counting((0..PROBES).map(probe));
    let name = format!("{OPEN} silent connections to the admin listener and more");
    beside.bear_strangers(&name, per_second(|| flood.rate(), "connections"), Some(served));
}
