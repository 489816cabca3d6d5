//! A worker that stands still alone.

use std::time::{Duration, Instant};

use crate::support::bridge::wait_for_log;
use crate::support::{Bridge, Registry, Settings, Wire, eventually, http};

const PATIENCE: Duration = Duration::from_secs(60);

/// How long a worker may stand still, seconds.
const STILL: f64 = 15.0;

fn livez(bridge: &Bridge) -> u16 {
    http::get(bridge.admin(), "/livez").unwrap().status
}

#[test]
fn livez_says_so_when_a_worker_stands_still_for_15_s_and_when_it_turns_again() {
    let (registry, devices) = Registry::numbered(1);
    let mut bridge = Bridge::start(&Settings::stdio(&registry).toml("runtime.workers", "2"));
    assert_eq!(livez(&bridge), 200);
    let stopped = bridge.process().stop_thread("worker-1");
    let age = |worker| bridge.metric("jetlinks_bridge_worker_tick_age_seconds", &[worker]);
    // The age only grows: what it was before an answer, and what it is after it, tell how old the worker's turn was then.
    eventually("the bridge does not live", PATIENCE, || {
        let before = age(r#"worker="1""#);
        let status = livez(&bridge);
        let after = age(r#"worker="1""#);
        match status {
            200 => assert!(before <= STILL, "it lives after {before} s"),
            _ => assert!(status == 503 && after > STILL, "{status} after {after} s"),
        }
        (status == 503).then_some(())
    });
    eventually("the other one turns", PATIENCE, || (age(r#"worker="0""#) < STILL / 3.0).then_some(()));
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
    // drain.timeout and 5 s: it has not given up before, and without a limit it would wait as long as the worker stands.
    assert!(took >= Duration::from_secs(6), "{took:?}");
}
