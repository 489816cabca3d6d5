//! Servers of NATS that are restarted one by one under load.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::caller::{Caller, count_codes, quantile, read_of};
use crate::support::{Bridge, Cluster, Load, Registry, Settings, Stopwatch, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// Devices of each of the two replicas.
const DEVICES: usize = 30;

/// Messages a second of each device.
const RATE: f64 = 4.0;

/// Commands are back within this time.
const BACK_WITHIN: Duration = Duration::from_secs(10);

fn sum(replicas: &[Bridge], name: &str) -> usize {
    replicas.iter().map(|replica| replica.metric(name, &[])).sum::<f64>() as usize
}

#[test]
fn a_restart_of_every_server_of_a_cluster_costs_no_message_and_no_session_and_commands_come_back() {
    let mut cluster = Cluster::start();
    let (registry, devices) = Registry::numbered(2 * DEVICES);
    let settings = Settings::cluster(&registry, &cluster).text("nats.ping_interval", "1s");
    let replicas = [&settings, &settings].map(Bridge::start);
    let halves = [Registry::new(&devices[..DEVICES]), Registry::new(&devices[DEVICES..])];
    let mut loads: Vec<Load> =
        replicas.iter().zip(&halves).map(|(replica, half)| Load::start(replica.mqtt(), half, DEVICES, RATE)).collect();
    eventually("all devices are connected", PATIENCE, || {
        (sum(&replicas, "jetlinks_bridge_sessions") == devices.len()).then_some(())
    });
    let caller = Caller::connect(&cluster.urls());
    let body = r#"{"properties":["sn"],"headers":{"timeout":2000}}"#;
    let ask_all = || devices.iter().map(|device| caller.ask(&read_of(&device.id), body)).collect::<Vec<usize>>();

    for number in 0..3 {
        let stored = sum(&replicas, "jetlinks_bridge_stored_total");
        cluster.stop(number);
        let (begin, watch) = (Instant::now(), Stopwatch::start());
        // Callers retry, as the contract asks them to: one question a moment until every device has answered one.
        let mut open: Vec<&str> = devices.iter().map(|device| device.id.as_str()).collect();
        while !open.is_empty() {
            let took = watch.elapsed();
            assert!(took < BACK_WITHIN, "{} devices do not answer {took:?} after", open.len());
            open.retain(|device| {
                let asked = caller.ask(&read_of(device), body);
                let answered = caller.answer_within(asked, Duration::from_secs(2));
                !answered.is_some_and(|answer| answer.is_of_device())
            });
        }
        println!("server {number} stopped: all devices answer again after {:?}", begin.elapsed());
        eventually("messages are stored again", PATIENCE, || {
            (sum(&replicas, "jetlinks_bridge_stored_total") > stored + 2 * devices.len()).then_some(())
        });
        println!("server {number} stopped: messages are stored again after {:?}", begin.elapsed());
        cluster.start_again(number);
    }

    let answers = caller.answers(&ask_all());
    assert_eq!(count_codes(&answers)["reply"], devices.len());
    let mut times: Vec<Duration> = answers.iter().map(|answer| answer.after).collect();
    println!(
        "{} commands at once: p50 {:?}, p99 {:?}",
        times.len(),
        quantile(&mut times, 0.5),
        quantile(&mut times, 0.99)
    );
    assert_eq!(sum(&replicas, "jetlinks_bridge_sessions_closed_total"), 0, "sessions were to stay");
    for load in &mut loads {
        let summary = load.finish();
        assert_eq!(
            (&summary["unacknowledged"], &summary["reconnects"]),
            (&Value::from(0), &Value::from(0)),
            "{summary}"
        );
        load.verify(&replicas[0].config());
    }
}
