//! A worker that stands still alone.

use std::time::{Duration, Instant};

use crate::support::bridge::wait_for_log;
use crate::support::{Bridge, Registry, Settings, Wire, eventually, http};

const PATIENCE: Duration = Duration::from_secs(60);

/// How long a worker may stand still, what of it may have passed before it was stopped, and when it is known at the latest.
const STILL: Duration = Duration::from_secs(15);
const TURN: Duration = Duration::from_secs(1);
const KNOWN: Duration = Duration::from_secs(20);

fn livez(bridge: &Bridge) -> u16 {
    http::get(bridge.admin(), "/livez").unwrap().status
}

#[test]
fn livez_says_so_when_a_worker_stands_still_for_15_s_and_when_it_turns_again() {
    let (registry, devices) = Registry::numbered(1);
    let mut bridge = Bridge::start(&Settings::stdio(&registry).toml("runtime.workers", "2"));
    assert_eq!(livez(&bridge), 200);
    let begin = Instant::now();
    let stopped = bridge.process().stop_thread("worker-1");
    eventually("the bridge does not live", PATIENCE, || (livez(&bridge) == 503).then_some(()));
    let took = begin.elapsed();
    assert!(took > STILL - TURN && took < KNOWN, "after {took:?}");
    let age = |worker| bridge.metric("jetlinks_bridge_worker_tick_age_seconds", &[worker]);
    assert!(age(r#"worker="1""#) > STILL.as_secs_f64() && age(r#"worker="0""#) < STILL.as_secs_f64() / 3.0);
    assert_eq!(http::get(bridge.admin(), "/readyz").unwrap().status, 200, "readiness is another matter");
    drop(stopped);
    eventually("the bridge lives", PATIENCE, || (livez(&bridge) == 200).then_some(()));
    let _wire = Wire::connect(bridge.mqtt(), &devices[0]);
}

#[test]
fn a_worker_that_stands_still_does_not_keep_the_process_from_ending() {
    let (registry, _) = Registry::numbered(1);
    let settings = Settings::stdio(&registry).text("drain.timeout", "1s").toml("runtime.workers", "1");
    let mut bridge = Bridge::start(&settings);
    let stopped = bridge.process().stop_thread("worker-0");
    let begin = Instant::now();
    bridge.signal(libc::SIGTERM);
    wait_for_log(&bridge, &["the end takes longer than it may"]);
    let took = begin.elapsed();
    drop(stopped);
    assert_eq!(bridge.exit_code(), 1);
    // drain.timeout and 5 s, and what a busy machine adds.
    assert!((6.0..9.0).contains(&took.as_secs_f64()), "{took:?}");
}
