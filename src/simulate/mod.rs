//! Simulated devices that speak MQTT or CoAP, as many as needed, in one thread; and the proof that nothing is lost: their
//! [`ledger`], and [`verify`], which compares it with the queue.
//!
//! A [`Simulation`] says what to do; [`identities`] says who the devices are; `fleet` is the state that they share. `driver` is the
//! light task of each device, `mqtt` and `coap` are the devices. A step reads all that is there, refills the window and
//! writes once, so that the generator costs less than what it measures.
#![expect(clippy::disallowed_methods, reason = "a load generator has a clock, sockets and random numbers")]

mod coap;
mod counters;
mod driver;
mod fleet;
pub mod identities;
pub mod ledger;
mod mqtt;
mod plan;
mod report;
mod summary;
pub mod verify;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use openssl::error::ErrorStack;
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::rustls;

pub use identities::Identity;
pub use mqtt::AnyServer;
pub use plan::{Plan, Progress, Schedule, Transport};
pub use summary::{LatencySummary, Summary};

use self::counters::{Counters, Latencies};
use self::driver::drive;
use self::fleet::{Fleet, Phase};
use self::ledger::LedgerWriter;
use self::report::ReportTemplate;
use self::summary::{Baseline, Counts};
use crate::app::{self, Signals};
use crate::codec::mqtt::Qos;
use crate::protocol::random::Random;

/// How often the ledger is brought to the file.
const LEDGER_TICK: Duration = Duration::from_millis(200);
/// Ledger ticks between two lines of progress.
const PROGRESS_TICKS: u32 = 5;
/// Ledger ticks after which it is worth a word that no device is connected and no reason is known.
const SILENT_TICKS: u32 = 15;
/// Time for devices to say goodbye at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// A simulation to run.
#[derive(Debug)]
pub struct Simulation<'a> {
    /// Behaviour of each device.
    pub plan: Plan,
    /// The devices.
    pub identities: Vec<Identity>,
    /// When the simulation ends.
    pub schedule: Schedule,
    /// Size of a report.
    pub payload_bytes: usize,
    /// Where the ledger is written; the file must not exist.
    pub ledger: Option<&'a Path>,
    /// How the simulation tells how far it is.
    pub progress: Progress,
}

/// Reason for which a simulation does not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The system gives no random numbers.
    #[error("no random numbers: {0}")]
    Random(getrandom::Error),
    /// The file of the ledger exists or cannot be written.
    #[error("{0}")]
    LedgerFile(PathBuf, #[source] io::Error),
    /// The system gives no runtime.
    #[error("no runtime")]
    Runtime(#[source] io::Error),
    /// The system takes no handlers of signals.
    #[error("no signals")]
    Signals(#[source] io::Error),
    /// OpenSSL has no DTLS.
    #[error("no DTLS")]
    Dtls(#[source] ErrorStack),
    /// TLS cannot be configured.
    #[error("no TLS")]
    Tls(#[source] rustls::Error),
    /// The key of this device cannot encrypt.
    #[error("{0}: its key has not 16 bytes")]
    Key(String),
    /// A part of the ledger was not written.
    #[error("the ledger is incomplete")]
    Ledger(#[source] io::Error),
}

impl Simulation<'_> {
    /// Simulates until the end of the schedule, of all counts, or until a signal; a second signal waits for nothing more.
    ///
    /// # Errors
    /// [`SimulateError`]: the simulation did not begin, or its ledger is incomplete.
    pub fn run(self) -> Result<Summary, SimulateError> {
        let Self { plan, identities, schedule, payload_bytes, ledger, progress } = self;
        let seed = getrandom::u64().map_err(SimulateError::Random)?;
        let run = format!("{seed:016X}");
        let ledger = match ledger {
            Some(path) => {
                let devices = identities.iter().map(|identity| (identity.product.as_str(), identity.device.as_str()));
                let ledger = LedgerWriter::create(path, &run, devices);
                Some(ledger.map_err(|error| SimulateError::LedgerFile(path.to_owned(), error))?)
            }
            None => None,
        };
        // Each device takes a descriptor. Where they do not suffice, connecting says so.
        let _unchanged = app::raise_open_files();
        let template = ReportTemplate::new(&run, payload_bytes);
        let counters = Counters { ledger, ..Counters::default() };
        let fleet = Rc::new(Fleet::new(plan, template, counters, identities.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(SimulateError::Runtime)?;
        let random = Random::new(seed.into());
        LocalSet::new().block_on(&runtime, simulate(&run, identities, schedule, progress, random, &fleet))
    }
}

async fn simulate(
    run: &str,
    identities: Vec<Identity>,
    schedule: Schedule,
    progress: Progress,
    mut random: Random,
    fleet: &Rc<Fleet>,
) -> Result<Summary, SimulateError> {
    let mut signals = Signals::new().map_err(SimulateError::Signals)?;
    let devices = identities.len();
    let mut tasks = tokio::task::JoinSet::new();
    let security = coap::Security::new(fleet.plan.transport).map_err(SimulateError::Dtls)?;
    let encrypts = fleet.plan.transport == Transport::Mqtts;
    let encryption = encrypts.then(mqtt::Encryption::new).transpose().map_err(SimulateError::Tls)?;
    for (index, identity) in (0..).zip(identities) {
        // Devices that begin together do not send together.
        let first_due_ns = random.draw().checked_rem(fleet.plan.interval_ns).unwrap_or(0);
        match &security {
            None => {
                let client = mqtt::Client::new(index, identity, first_due_ns);
                let encryption = encryption.as_ref().map(mqtt::Encryption::of_device);
                tasks.spawn_local(drive::<mqtt::Connection>(Rc::clone(fleet), index, client, encryption));
            }
            Some(security) => {
                let client = coap::Client::new(index, &identity, security, first_due_ns)
                    .ok_or(SimulateError::Key(identity.device))?;
                tasks.spawn_local(drive::<coap::Connection>(Rc::clone(fleet), index, client, security.clone()));
            }
        }
    }
    let mut watch = Watch::new(schedule, progress, devices, &fleet.plan);
    let mut ticks = interval(LEDGER_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => watch.tick(fleet)?,
            () = signals.next() => watch.stop(fleet),
            () = fleet.idle() => {}
        }
        if fleet.unfinished() == 0 && fleet.phase() == Phase::Running {
            watch.stop(fleet);
        }
        if watch.is_over(fleet) {
            break;
        }
    }
    fleet.enter(Phase::Closing);
    // Those that do not manage to say goodbye are cut off; nothing depends on it.
    let goodbye = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
    watch.bar.finish_and_clear();
    watch.tell_news(fleet);
    let mut counters = fleet.counters.borrow_mut();
    if let Some(ledger) = &mut counters.ledger {
        ledger.end().map_err(SimulateError::Ledger)?;
    }
    Ok(watch.summary(fleet, run, &counters))
}

/// Decides when the simulation goes on to its next phase, and tells how it is doing.
struct Watch {
    schedule: Schedule,
    progress: Progress,
    bar: ProgressBar,
    devices: usize,
    ticks: u32,
    shown: Baseline,
    from: Option<Baseline>,
    stopped: Option<Baseline>,
    is_hurried: bool,
}

impl Watch {
    fn new(schedule: Schedule, progress: Progress, devices: usize, plan: &Plan) -> Self {
        let shown = Baseline::default();
        let bar = if progress == Progress::Bar { bar(&schedule, devices, plan) } else { ProgressBar::hidden() };
        Self { schedule, progress, bar, devices, ticks: 0, shown, from: None, stopped: None, is_hurried: false }
    }

    fn tick(&mut self, fleet: &Fleet) -> Result<(), SimulateError> {
        let now = baseline(fleet);
        self.measure(fleet, now);
        let mut counters = fleet.counters.borrow_mut();
        if let Some(ledger) = &mut counters.ledger {
            ledger.flush().map_err(SimulateError::Ledger)?;
        }
        drop(counters);
        if fleet.phase() == Phase::Running {
            let is_time_up = self.schedule.duration.is_some_and(|duration| now.at_ns >= nanos(duration));
            if is_time_up {
                self.stop(fleet);
            }
        }
        self.ticks += 1;
        self.tell_news(fleet);
        if self.ticks.is_multiple_of(PROGRESS_TICKS) && self.progress != Progress::Quiet && fleet.tasks_left() > 0 {
            self.progress(fleet, now);
        }
        Ok(())
    }

    /// Says on stderr why devices do not connect, each reason once.
    fn tell_news(&self, fleet: &Fleet) {
        let mut counters = fleet.counters.borrow_mut();
        let is_silent = counters.ever_connected == 0 && counters.refused.is_empty() && counters.ended.is_empty();
        if self.ticks == SILENT_TICKS && is_silent {
            counters.news.push("no device is connected yet: nothing answers".to_owned());
        }
        for news in counters.news.drain(..) {
            let text = format!("{news} ({})", fleet.plan.address);
            match self.progress {
                Progress::Quiet => {}
                Progress::Json => self.print(&serde_json::json!({ "trouble": text }).to_string()),
                Progress::Text | Progress::Bar => self.print(&format!("simulate: {text}")),
            }
        }
    }

    /// A line on stderr, above the bar where there is one.
    fn print(&self, line: &str) {
        self.bar.suspend(|| {
            // Nobody reads stderr: nothing can be said about it either.
            let _ = writeln!(io::stderr(), "{line}");
        });
    }

    /// Finds the begin of what is measured.
    fn measure(&mut self, fleet: &Fleet, now: Baseline) {
        let mut counters = fleet.counters.borrow_mut();
        let is_complete = counters.ever_connected >= self.devices as u64;
        let Some(warmup) = self.schedule.warmup.filter(|_| is_complete && self.from.is_none()) else { return };
        if now.at_ns >= counters.last_connected_ns + nanos(warmup) {
            counters.latency = Latencies::default();
            self.from = Some(now);
        }
    }

    fn stop(&mut self, fleet: &Fleet) {
        if self.stopped.is_some() {
            self.is_hurried = true;
            return;
        }
        self.stopped = Some(baseline(fleet));
        fleet.enter(Phase::Settling);
    }

    fn is_over(&self, fleet: &Fleet) -> bool {
        let Some(stopped) = self.stopped else { return false };
        let is_settled = fleet.tasks_left() == 0;
        self.is_hurried || is_settled || fleet.now_ns() >= stopped.at_ns + nanos(self.schedule.grace)
    }

    fn progress(&mut self, fleet: &Fleet, now: Baseline) {
        let counters = fleet.counters.borrow();
        let seconds = (now.at_ns + 500_000_000) / 1_000_000_000;
        let passed_ns = (now.at_ns - self.shown.at_ns).max(1);
        let per_second = |count: u64| count * 1_000_000_000 / passed_ns;
        let sent = per_second(now.sent - self.shown.sent);
        let acknowledged = per_second(now.acknowledged - self.shown.acknowledged);
        let line = match self.progress {
            Progress::Quiet => return,
            Progress::Text | Progress::Bar => format!(
                "{seconds} s: {} of {} connected, {} sent ({sent}/s), {} acknowledged ({acknowledged}/s){}",
                counters.connected,
                self.devices,
                now.sent,
                now.acknowledged,
                summary::p99(&counters.latency),
            ),
            Progress::Json => format!(
                r#"{{"elapsed_ms":{},"connected":{},"sent":{},"acknowledged":{},"measuring":{}}}"#,
                now.at_ns / 1_000_000,
                counters.connected,
                now.sent,
                now.acknowledged,
                self.from.is_some()
            ),
        };
        if self.progress == Progress::Bar {
            // By time where the schedule has an end, else by the messages of all devices.
            self.bar.set_position(if self.schedule.duration.is_some() { seconds } else { now.acknowledged });
            self.bar.set_message(line);
        } else {
            self.print(&line);
        }
        self.shown = now;
    }

    fn summary(&self, fleet: &Fleet, run: &str, counters: &Counters) -> Summary {
        let stopped = self.stopped.unwrap_or_else(|| baseline(fleet));
        let counts = Counts {
            is_acknowledged: fleet.plan.qos != Qos::AtMostOnce,
            from: self.from.unwrap_or(Baseline {
                at_ns: counters.first_connected_ns.unwrap_or_default(),
                sent: 0,
                acknowledged: 0,
            }),
            until_ns: stopped.at_ns,
            acknowledged_until: stopped.acknowledged,
        };
        Summary::new(run, self.devices as u64, counters, counts)
    }
}

/// A bar on stderr as long as the schedule or all messages are; a line without a bar where neither has an end.
fn bar(schedule: &Schedule, devices: usize, plan: &Plan) -> ProgressBar {
    let messages = plan.count.checked_mul(devices as u64).filter(|all| *all > 0 && plan.qos != Qos::AtMostOnce);
    let (bar, template) = match schedule.duration.map(|duration| duration.as_secs()).or(messages) {
        Some(length) => (ProgressBar::new(length), "[{bar:20}] {eta} {wide_msg}"),
        None => (ProgressBar::new_spinner(), "{wide_msg}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style.progress_chars("#--"))
}

fn baseline(fleet: &Fleet) -> Baseline {
    let counters = fleet.counters.borrow();
    Baseline { at_ns: fleet.now_ns(), sent: counters.sent, acknowledged: counters.acknowledged }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
