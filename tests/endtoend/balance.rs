//! Six replicas behind a balancer that takes them in turn: sessions over all of them, and how they are spread after each
//! replica was restarted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fleet::Fleet;
use crate::support::bridge::{Finished, command, run_command};
use crate::support::caller::{Caller, count_codes};
use crate::support::{Load, Nats, Registry, Settings, eventually, http, wait};

const REPLICAS: usize = 6;

/// Messages a second of each device.
const RATE: f64 = 0.2;

const PATIENCE: Duration = Duration::from_secs(60);

/// The deadline of a command, and as much again.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);

/// `TEST_DEVICES=900 cargo test` takes so many; a multiple of six.
fn devices() -> usize {
    std::env::var("TEST_DEVICES").ok().and_then(|number| number.parse().ok()).unwrap_or(300)
}

/// Sessions of the replica with that admin page; 0 when it does not run.
fn sessions(admin: SocketAddr) -> usize {
    let page = http::get(admin, "/api/sessions?limit=1").ok();
    let page = page.and_then(|page| serde_json::from_str::<Value>(&page.body).ok());
    page.and_then(|page| page["total"].as_u64()).unwrap_or(0) as usize
}

/// Runs `jetlinks-bridge shed` and reads the JSON that it prints.
fn shed(admin: SocketAddr, arguments: &[&str]) -> Value {
    let mut call = command();
    call.args(["shed", "--address", &admin.to_string(), "--output", "json"]).args(arguments);
    let finished: Finished = run_command(&mut call, "", PATIENCE);
    assert_eq!(finished.code, 0, "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// How the sessions were spread, as shares of the mean.
#[derive(Debug)]
struct Spread {
    /// The most that one replica had at any time.
    peak: f64,
    /// The most and the least at the end.
    end: (f64, f64),
    /// How often a device connected again, on average.
    reconnects: f64,
}

/// Restarts one replica after the other under load, with a shed down to the mean after each where `is_levelled`.
#[expect(clippy::print_stdout, reason = "measured figures, for whoever asks with --nocapture")]
fn restart_all(is_levelled: bool) -> Spread {
    let count = devices();
    let mean = count as f64 / REPLICAS as f64;
    let nats = Nats::start();
    let (registry, registered) = Registry::numbered(count);
    let drain_rate = (count / 2).to_string();
    let settings = Settings::nats(&registry, &nats).toml("drain.rate", &drain_rate);
    let mut fleet = Fleet::start(REPLICAS, &settings);
    let admins: Vec<SocketAddr> = fleet.running().map(|replica| replica.admin()).collect();
    let mut load = Load::start(fleet.address(), &registry, count, RATE);
    fleet.wait_for_sessions(count);
    let caller = Caller::connect(&[nats.url()]);
    let (is_over, shed_rate) = (AtomicBool::new(false), (count / 6).to_string());
    let (peak, asked) = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut peak = 0;
            while wait::within(Duration::from_millis(50), || is_over.load(Ordering::Relaxed).then_some(())).is_none() {
                peak = peak.max(admins.iter().map(|admin| sessions(*admin)).max().unwrap_or(0));
            }
            peak
        });
        let asking = scope.spawn(|| caller.ask_in_turn(&registered, &is_over));
        for number in 0..REPLICAS {
            let begin = Instant::now();
            let mut replica = fleet.take(number);
            replica.signal(libc::SIGTERM);
            assert_eq!(replica.exit_code(), 0, "{}", replica.log());
            fleet.start_again(number);
            fleet.wait_for_sessions(count);
            let restarted = begin.elapsed();
            let before: Vec<usize> = admins.iter().map(|admin| sessions(*admin)).collect();
            if is_levelled {
                let other = admins[(number + 1) % REPLICAS];
                eventually("the replicas hear each other", PATIENCE, || {
                    let page = http::get(other, "/api/sessions?replicas=all&limit=1").ok()?.body;
                    let page: Value = serde_json::from_str(&page).ok()?;
                    let hears_all = page["replicas"].as_array()?.len() == REPLICAS && page["missing"] == json!([]);
                    hears_all.then_some(())
                });
                let report = shed(other, &["--to", "mean", "--rate", &shed_rate, "--wait"]);
                let states: Vec<&Value> =
                    report["replicas"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
                assert_eq!(states, ["done"; REPLICAS], "{report}");
                fleet.wait_for_sessions(count);
            }
            let after: Vec<usize> = admins.iter().map(|admin| sessions(*admin)).collect();
            println!("replica {number}: {before:?} after {restarted:?}, {after:?} after {:?}", begin.elapsed());
        }
        is_over.store(true, Ordering::Relaxed);
        (looking.join().unwrap(), asking.join().unwrap())
    });
    let end: Vec<usize> = admins.iter().map(|admin| sessions(*admin)).collect();
    let [most, least] = [end.iter().max(), end.iter().min()].map(|number| *number.unwrap() as f64 / mean);

    let unanswered = || asked.iter().filter(|number| !caller.is_answered(**number)).count();
    let lost = wait::within(COMMAND_PATIENCE, || (unanswered() == 0).then_some(0)).unwrap_or_else(unanswered);
    assert_eq!(lost, 0, "of {} commands have no outcome", asked.len());
    let answered: Vec<usize> = asked.iter().copied().filter(|number| caller.is_answered(*number)).collect();
    let codes = count_codes(&caller.answers(&answered));
    println!("{} commands: {codes:?}, {lost} lost", asked.len());
    for code in codes.keys() {
        assert!(["reply", "NO_RESPONDERS", "CONNECTION_LOST"].contains(&code.as_str()), "{code}");
    }
    let summary = load.finish();
    assert_eq!(summary["unacknowledged"], 0, "{summary}");
    println!("ledger: {}", load.verify(&fleet.running().next().unwrap().config()));
    let reconnects = summary["reconnects"].as_f64().unwrap_or(f64::NAN) / count as f64;
    Spread { peak: peak as f64 / mean, end: (most, least), reconnects }
}

#[test]
fn sheds_between_restarts_keep_sessions_even_and_cost_no_message_and_no_outcome() {
    // `TEST_SHEDS=off cargo test` shows what it comes to without, and fails.
    let spread = restart_all(std::env::var("TEST_SHEDS").as_deref() != Ok("off"));
    println!("{spread:?}");
    assert!(spread.peak <= 1.3, "{spread:?}");
    let (most, least) = spread.end;
    assert!(most <= 1.2 * least, "{spread:?}");
    // Each of the six sheds ends twice what is too many at most, and no device is to be sent round without end.
    assert!(spread.reconnects < 12.0, "{spread:?}");
}
