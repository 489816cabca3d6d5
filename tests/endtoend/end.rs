//! The end of the bridge while what it depends on is away.

use std::time::Duration;

use crate::support::{Bridge, Nats, Registry, Settings, Stopwatch, Wire};

/// `drain.timeout` here; a second is far less than what ended it late.
const DRAIN: Duration = Duration::from_secs(6);

/// Tolerance beyond it, for the last log lines and a busy machine.
const LATE: Duration = Duration::from_secs(1);

#[test]
fn a_drain_without_the_queue_ends_at_drain_timeout_and_not_later() {
    let nats = Nats::start();
    let (registry, devices) = Registry::numbered(1);
    let settings = Settings::nats(&registry, &nats)
        .text("limits.ack_timeout", "10m")
        .text("drain.timeout", &format!("{}s", DRAIN.as_secs()));
    let mut bridge = Bridge::start(&settings);
    let mut wire = Wire::connect(bridge.mqtt(), &devices[0]);
    nats.process().signal(libc::SIGSTOP);
    wire.publish(&devices[0].topic("tags"), r#"{"tags":{"a":1}}"#, 1, 1);
    let watch = Stopwatch::start();
    bridge.signal(libc::SIGTERM);
    assert_eq!(bridge.exit_code(), 1, "{}", bridge.log());
    let took = watch.elapsed();
    assert!(took < DRAIN + LATE, "{took:?}");
    assert!(bridge.log().contains("the queue did not acknowledge everything in time"), "{}", bridge.log());
}
