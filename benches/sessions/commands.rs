//! Commands: NATS request, device, reply, outcome.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use tokio::task::JoinSet;

use crate::bare;
use crate::processor;
use crate::support::bridge::command;
use crate::support::{Bridge, Nats, Process, Registry, Settings, eventually};

/// Devices that answer.
const DEVICES: usize = 100;

const PATIENCE: Duration = Duration::from_secs(60);

/// Commands that wait for their outcome at a time, to find the greatest rate.
const OUTSTANDING: usize = 200;

/// How the caller asks.
#[derive(Clone, Copy)]
enum Demand {
    /// At this rate, without waiting for earlier answers.
    PerSecond(u32),
    /// As fast as so many at a time are answered.
    Outstanding(usize),
}

/// Measures the round trip as the caller sees it, and what a command costs the bridge: as many as it takes, half of that, and
/// `per_second`.
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
    println!("\ncommands to {DEVICES} devices for {seconds} s each, replies at QoS 1; ms from request to outcome:");
    println!(
        "| commands | answered/s | not answered | us of the bridge | p50 | p95 | p99 | p99.9 | max |\n|{}",
        "---|".repeat(9)
    );
    let show = |name: &str, demand| {
        let before_us = processor::time_us(id);
        let Answers { mut latencies, failures } = ask(&nats.url(), demand, Duration::from_secs(seconds.into()));
        let cost_us = processor::time_us(id).saturating_sub(before_us) as f64 / latencies.len().max(1) as f64;
        latencies.sort_unstable();
        let at = |share: f64| {
            let place = (latencies.len() as f64 * share) as usize;
            format!("{:.2}", latencies.get(place).or(latencies.last()).map_or(0.0, |took| took.as_secs_f64() * 1e3))
        };
        let rate = latencies.len() as u32 / seconds;
        let cells = [0.5, 0.95, 0.99, 0.999, 1.0].map(at);
        println!("| {name} | {rate} | {failures} | {cost_us:.1} | {} |", cells.join(" | "));
        rate
    };
    let most = show("as many as it takes", Demand::Outstanding(OUTSTANDING));
    show("half of that", Demand::PerSecond((most / 2).max(1)));
    show(&format!("{per_second}/s"), Demand::PerSecond(per_second));
    println!("\nits system calls alone, {per_second}/s: {:.1} us", bare::cost_us(per_second, seconds));
    devices.stop(Duration::from_secs(30));
}

/// What came of commands.
#[derive(Debug, Default)]
struct Answers {
    latencies: Vec<Duration>,
    failures: usize,
}

impl Answers {
    fn count(&mut self, answer: Option<Duration>) {
        match answer {
            Some(took) => self.latencies.push(took),
            None => self.failures += 1,
        }
    }
}

/// Asks for that long.
fn ask(url: &str, demand: Demand, duration: Duration) -> Answers {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let answers = Arc::new(Mutex::new(Answers::default()));
    runtime.block_on(async {
        let client = async_nats::connect(url).await.expect("the server is there");
        let end = Instant::now() + duration;
        let mut asked = JoinSet::new();
        match demand {
            Demand::PerSecond(per_second) => {
                let mut pace = tokio::time::interval(Duration::from_secs(1) / per_second);
                for number in 0.. {
                    pace.tick().await;
                    if Instant::now() >= end {
                        break;
                    }
                    let (client, answers) = (client.clone(), Arc::clone(&answers));
                    asked.spawn(async move { note(&answers, request(&client, number).await) });
                }
            }
            Demand::Outstanding(count) => {
                for first in 0..count {
                    let (client, answers) = (client.clone(), Arc::clone(&answers));
                    asked.spawn(async move {
                        let mut number = first;
                        while Instant::now() < end {
                            note(&answers, request(&client, number).await);
                            number += count;
                        }
                    });
                }
            }
        }
        while asked.join_next().await.is_some() {}
    });
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *answers)
}

fn note(answers: &Mutex<Answers>, answer: Option<Duration>) {
    answers.lock().unwrap_or_else(PoisonError::into_inner).count(answer);
}

/// Time until the device's reply; `None`: something else came, or nothing.
async fn request(client: &Client, number: usize) -> Option<Duration> {
    let device = number % DEVICES + 1;
    let subject = format!("jetlinks.command.product1.device{device}.properties.read");
    let begin = Instant::now();
    let answer = client.request(subject, r#"{"properties":["sn"]}"#.into()).await.ok()?;
    answer.payload.windows(16).any(|part| part == br#""success":true}}"#).then(|| begin.elapsed())
}
