//! Few descriptors, many devices, and a queue that goes away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::wait::within;
use crate::support::{Bridge, Load, Nats, Registry, Settings, Stopwatch, eventually, http};

const PATIENCE: Duration = Duration::from_secs(60);

/// Asks for the probes until it is told to stop: how many answers came, and the longest time that one took.
fn probe(admin: SocketAddr, is_over: Arc<AtomicBool>) -> thread::JoinHandle<(usize, Duration)> {
    thread::spawn(move || {
        let (mut count, mut longest) = (0, Duration::ZERO);
        while !is_over.load(Ordering::Relaxed) {
            for path in ["/livez", "/readyz"] {
                let watch = Stopwatch::start();
                let answer = http::get(admin, path).unwrap_or_else(|error| panic!("{path}: {error}"));
                assert_eq!(answer.status, 200, "{path}: {}", answer.body);
                longest = longest.max(watch.elapsed());
                count += 1;
            }
            within(Duration::from_millis(50), || is_over.load(Ordering::Relaxed).then_some(()));
        }
        (count, longest)
    })
}

#[test]
fn at_the_limit_of_descriptors_the_queue_is_reached_again_and_probes_are_answered() {
    let mut nats = Nats::start();
    let (registry, _) = Registry::numbered(400);
    let settings = Settings::nats(&registry, &nats).text("limits.ack_timeout", "2s");
    let bridge = Bridge::start_with_files(&settings, 200, 200);
    let is_over = Arc::new(AtomicBool::new(false));
    let probes = probe(bridge.admin(), is_over.clone());
    let stored = || bridge.metric("jetlinks_bridge_queue_records_total", &["stored"]);
    let mut load = Load::start(bridge.mqtt(), &registry, 400, 2.0);
    eventually("devices send", PATIENCE, || (stored() > 200.0).then_some(()));
    eventually("some find no room", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_connects_total", &["connection_limit"]) > 0.0).then_some(())
    });
    nats.kill9();
    // Every session is closed, and what it held is free for whoever comes next.
    let closed = || bridge.metric("jetlinks_bridge_sessions_closed_total", &["not_acknowledged"]);
    eventually("sessions are closed", PATIENCE, || (closed() > 20.0).then_some(()));
    let refused = || bridge.metric("jetlinks_bridge_connects_total", &["queue_away"]);
    eventually("devices come again and again", PATIENCE, || (refused() > 400.0).then_some(()));
    let before = stored();
    nats.restart();
    let watch = Stopwatch::start();
    eventually("messages are stored again", PATIENCE, || (stored() > before + 100.0).then_some(()));
    let took = watch.elapsed();
    assert!(took < Duration::from_secs(10), "back {took:?} after the server");
    is_over.store(true, Ordering::Relaxed);
    let (count, longest) = probes.join().unwrap();
    assert!(count > 50 && longest < Duration::from_secs(2), "{count} probes, the slowest took {longest:?}");
    load.finish();
    assert!(!bridge.log().contains("Too many open files"), "{}", bridge.log());
}
