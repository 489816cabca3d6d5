//! A log that nobody reads.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::wire::Incoming;
use crate::support::{
    Bridge, Connect, Nats, Packet, Pipe, Registration, Registry, Settings, Stopwatch, Wire, eventually, http, port,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A connection of the device, if it is let in at this moment.
fn try_connect(mqtt: SocketAddr, device: &Registration) -> Option<Wire> {
    let mut wire = Wire::open(mqtt);
    wire.send_regardless(&Connect::of(device).bytes());
    (wire.next() == Incoming::Packet(Packet { header: 0x20, body: vec![0, 0] })).then_some(wire)
}

#[test]
fn a_log_that_nobody_reads_keeps_no_device_waiting_and_no_process_from_ending() {
    let mut nats = Nats::start();
    let (registry, devices) = Registry::numbered(2);
    let pipe = Pipe::new();
    let [mqtt, admin] = [0; 2].map(|_| SocketAddr::from(([127, 0, 0, 1], port::free_port())));
    let mut bridge = Bridge::start_logging_to(pipe.end(), &Settings::nats(&registry, &nats), mqtt, admin);
    pipe.fill();
    nats.restart();
    for device in &devices {
        let mut wire = eventually("the device is let in", PATIENCE, || try_connect(mqtt, device));
        wire.publish_acknowledged(&device.topic("tags"), r#"{"tags":{"a":1}}"#, 1);
    }
    assert_eq!(http::get(admin, "/readyz").unwrap().status, 200);
    let watch = Stopwatch::start();
    bridge.signal(libc::SIGTERM);
    assert_eq!(bridge.exit_code(), 0);
    let took = watch.elapsed();
    assert!(took < Duration::from_secs(10), "the end took {took:?}");
}
