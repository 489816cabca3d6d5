//! Three replicas behind a balancer: commands to every device, restarts one by one under load, a crash.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use jetlinks_bridge::queue::ReadFrom;
use jetlinks_bridge::queue::nats::{NatsReader, NatsSettings};
use serde_json::Value;

use crate::command::last_envelope;
use crate::fleet::Fleet;
use crate::support::caller::{Caller, READ, count_codes, quantile, read_of};
use crate::support::{Load, Nats, Registration, Registry, Settings, Stopwatch, Wire, eventually, http};

/// Devices.
const DEVICES: usize = 300;

/// Messages a second of each.
const RATE: f64 = 2.0;

/// `drain.rate`: sessions a second that a replica closes when it ends.
const DRAIN_RATE: usize = 100;

/// Time in which a device comes back after its session was closed, beyond the time that the drain takes: its
/// pauses between attempts are at most two seconds, and the machine may be busy.
const RETURN: Duration = Duration::from_secs(10);

const PATIENCE: Duration = Duration::from_secs(60);

struct Stage {
    nats: Nats,
    registry: Registry,
    devices: Vec<Registration>,
    fleet: Fleet,
    caller: Caller,
}

impl Stage {
    fn new(devices: usize, replicas: usize) -> Self {
        let nats = Nats::start();
        let (registry, devices) = Registry::numbered(devices);
        let settings = Settings::nats(&registry, &nats).toml("drain.rate", &DRAIN_RATE.to_string());
        let fleet = Fleet::start(replicas, &settings);
        let caller = Caller::connect(&[nats.url()]);
        Self { nats, registry, devices, fleet, caller }
    }

    fn ask_all(&self, devices: usize) -> Vec<usize> {
        self.devices[..devices].iter().map(|device| self.caller.ask(&read_of(&device.id), READ)).collect()
    }

    /// Every device gets a command at the same moment, and each command its one outcome, from the device.
    #[expect(clippy::print_stdout, reason = "a measured figure, for whoever asks with --nocapture")]
    fn assert_all_answer(&self, devices: usize) {
        let answers = self.caller.answers(&self.ask_all(devices));
        assert_eq!(count_codes(&answers).get("reply"), Some(&devices), "{:?}", count_codes(&answers));
        let mut times: Vec<Duration> = answers.iter().map(|answer| answer.after).collect();
        let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut times, share));
        println!("{devices} commands at once: p50 {p50:?}, p99 {p99:?}");
    }
}

/// Presence in the stream: by device the session of its last `online`, and the sessions of all `offline`.
fn presence(nats: &Nats) -> (HashMap<String, String>, HashSet<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let read = |subjects: &'static str| {
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let settings = NatsSettings::new(vec![nats.url()]);
            let mut reader = NatsReader::open(&settings, subjects, ReadFrom::Beginning).await.unwrap();
            let mut envelopes: Vec<Value> = Vec::new();
            while let Some(stored) = reader.next().await.unwrap() {
                envelopes.push(serde_json::from_slice(&stored.payload).unwrap());
            }
            envelopes
        })
    };
    let text = |envelope: &Value, name: &str| envelope[name].as_str().unwrap().to_owned();
    let online = read("device.*.*.online");
    let offline = read("device.*.*.offline");
    (
        online.iter().map(|envelope| (text(envelope, "deviceid"), text(envelope, "sessionid"))).collect(),
        offline.iter().map(|envelope| text(envelope, "sessionid")).collect(),
    )
}

#[test]
fn a_session_through_the_balancer_is_told_with_the_clients_own_address() {
    let stage = Stage::new(1, 1);
    let wire = Wire::connect(stage.fleet.address(), &stage.devices[0]);
    let online = crate::support::eventually("the device is online", PATIENCE, || {
        last_envelope(&stage.nats, "jetlinks.device.product1.device1.online")
    });
    assert_eq!(online["data"]["headers"]["cliAddr"], wire.local_address().to_string(), "{online}");
}

#[test]
fn a_rolling_restart_of_three_replicas_costs_no_message_no_outcome_and_no_device() {
    let mut stage = Stage::new(DEVICES, 3);
    let mut load = Load::start(stage.fleet.address(), &stage.registry, DEVICES, RATE);
    stage.fleet.wait_for_sessions(DEVICES);
    stage.assert_all_answer(DEVICES);

    let (caller, devices) = (&stage.caller, &stage.devices);
    let is_over = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let asking = scope.spawn(|| caller.ask_in_turn(devices, &is_over));
        for number in 0..3 {
            let mut replica = stage.fleet.take(number);
            let sessions = replica.metric("jetlinks_bridge_sessions", &[]) as usize;
            let (begin, watch) = (Instant::now(), Stopwatch::start());
            replica.signal(libc::SIGTERM);
            assert_eq!(replica.exit_code(), 0, "{}", replica.log());
            let ended = begin.elapsed();
            stage.fleet.wait_for_sessions(DEVICES);
            let back = watch.elapsed();
            println!("replica {number}: {sessions} sessions, ended after {ended:?}, all devices back after {back:?}");
            let paced = Duration::from_secs_f64(sessions as f64 / DRAIN_RATE as f64);
            assert!(ended >= paced.mul_f64(0.8), "{sessions} sessions were closed within {ended:?}");
            assert!(back < paced + RETURN, "the devices came back after {back:?}, the drain needs {paced:?}");
            stage.fleet.start_again(number);
        }
        is_over.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });

    let answers = stage.caller.answers(&asked);
    println!("{} commands while replicas were restarted: {:?}", answers.len(), count_codes(&answers));
    for code in count_codes(&answers).keys() {
        assert!(["reply", "NO_RESPONDERS", "CONNECTION_LOST"].contains(&code.as_str()), "{code}");
    }
    stage.assert_all_answer(DEVICES);
    let summary = load.finish();
    assert_eq!(summary["unacknowledged"], 0, "{summary}");
    println!("reports: {} acknowledged, latency {}", summary["acknowledged"], summary["latency_ms"]);
    let verdict = load.verify(&stage.fleet.running().next().unwrap().config());
    println!("ledger: {verdict}");
}

#[test]
fn while_replicas_are_restarted_no_offline_counts_but_the_last() {
    const SOME: usize = 60;
    let mut stage = Stage::new(SOME, 2);
    let mut load = Load::start(stage.fleet.address(), &stage.registry, SOME, 0.2);
    stage.fleet.wait_for_sessions(SOME);
    let mut replica = stage.fleet.take(0);
    replica.signal(libc::SIGTERM);
    assert_eq!(replica.exit_code(), 0, "{}", replica.log());
    stage.fleet.wait_for_sessions(SOME);
    let (online, offline) = presence(&stage.nats);
    assert_eq!(online.len(), SOME);
    assert!(!offline.is_empty(), "the sessions that were drained are told");
    for (device, session) in &online {
        assert!(!offline.contains(session), "{device} is connected and said to be offline");
    }
    load.finish();
}

#[test]
fn commands_to_the_devices_of_a_killed_replica_are_answered_at_once_and_reach_them_again_elsewhere() {
    const SOME: usize = 60;
    let mut stage = Stage::new(SOME, 2);
    let mut load = Load::start(stage.fleet.address(), &stage.registry, SOME, RATE);
    stage.fleet.wait_for_sessions(SOME);
    let mut replica = stage.fleet.take(0);
    let connections = || {
        let page = http::get(stage.nats.monitoring(), "/varz").unwrap().body;
        serde_json::from_str::<Value>(&page).unwrap()["connections"].as_u64().unwrap()
    };
    let before = connections();
    replica.process().kill9();
    let watch = Stopwatch::start();
    // What the server sends until then is lost with the replica, and has its caller's time-out as its outcome.
    eventually("the server has noticed", PATIENCE, || (connections() + 3 <= before).then_some(()));
    // Asked again and again until the last device has come back, and never without an answer.
    let mut rounds = Vec::new();
    loop {
        let asked = stage.ask_all(SOME);
        let answers = stage.caller.answers(&asked);
        let counts = count_codes(&answers);
        assert!(counts.keys().all(|code| ["reply", "NO_RESPONDERS"].contains(&code.as_str())), "{counts:?}");
        rounds.extend(answers.iter().map(|answer| answer.after));
        if counts.get("reply") == Some(&SOME) {
            break;
        }
        assert!(watch.elapsed() < RETURN, "{counts:?}");
    }
    println!("all devices of a killed replica answer again after {:?}", watch.elapsed());
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut rounds, share));
    println!("{} commands meanwhile: p50 {p50:?}, p99 {p99:?}", rounds.len());
    assert_eq!(load.finish()["unacknowledged"], 0);
    load.verify(&stage.fleet.running().next().unwrap().config());
}
