//! Commands at a steady rate: NATS request, device, reply, outcome.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::processor;
use crate::support::bridge::command;
use crate::support::{Bridge, Nats, Process, Registry, Settings, eventually};

/// Devices that answer.
const DEVICES: usize = 100;

const PATIENCE: Duration = Duration::from_secs(60);

/// Measures the round trip as the caller sees it, and what a command costs the bridge.
pub(crate) fn measure(per_second: u32, seconds: u32) {
    let nats = Nats::start();
    let (registry, _) = Registry::numbered(DEVICES);
    let mut bridge = Bridge::start(&Settings::nats(&registry, &nats));
    let mut call = command();
    call.args(["simulate", "--hold", "--quiet", "--respond", "--duration", "300s"])
        .args(["--address", &bridge.mqtt().to_string(), "--devices", &DEVICES.to_string()])
        .arg("--registry")
        .arg(registry.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut devices = Process::spawn(&mut call, None);
    eventually("all devices are connected", PATIENCE, || {
        (bridge.metric("jetlinks_bridge_sessions", &[]) as usize == DEVICES).then_some(())
    });
    let id = bridge.process().id();
    let before_us = processor::time_us(id);
    let (mut latencies, failures) = ask(&nats.url(), per_second, seconds);
    let cost_us = processor::time_us(id).saturating_sub(before_us) as f64 / latencies.len().max(1) as f64;
    latencies.sort_unstable();
    let at = |share: usize| latencies.get(latencies.len() * share / 100).map_or(0.0, |took| took.as_secs_f64() * 1e3);
    println!("\n{per_second} commands/s to {DEVICES} devices for {seconds} s, replies at QoS 1:");
    println!(
        "{} answered, {failures} not; round trip p50 {:.2} ms, p99 {:.2} ms; bridge {cost_us:.1} us a command",
        latencies.len(),
        at(50),
        at(99)
    );
    devices.stop(Duration::from_secs(30));
}

/// Asks at the rate, without waiting for earlier answers; the times of the answers, and how many were none.
fn ask(url: &str, per_second: u32, seconds: u32) -> (Vec<Duration>, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let results = Arc::new(Mutex::new((Vec::new(), 0)));
    runtime.block_on(async {
        let client = async_nats::connect(url).await.expect("the server is there");
        let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
        let mut asked = tokio::task::JoinSet::new();
        for number in 0..per_second * seconds {
            pace.tick().await;
            let device = number as usize % DEVICES + 1;
            let subject = format!("jetlinks.command.product1.device{device}.properties.read");
            let (client, results) = (client.clone(), Arc::clone(&results));
            asked.spawn(async move {
                let begin = Instant::now();
                let answer = client.request(subject, r#"{"properties":["sn"]}"#.into()).await;
                let is_reply =
                    answer.is_ok_and(|answer| answer.payload.windows(16).any(|part| part == br#""success":true}}"#));
                let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                if is_reply {
                    results.0.push(begin.elapsed());
                } else {
                    results.1 += 1;
                }
            });
        }
        while asked.join_next().await.is_some() {}
    });
    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *results)
}
