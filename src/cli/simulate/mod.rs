//! `simulate`: devices that speak MQTT or CoAP, as many as needed, in one thread.
//!
//! [`SimulateArgs`] say what to do; `roster` says who the devices are; `fleet` is what they share; `driver` is the light
//! task of each device, `link` what it is connected by, and `client` the device itself, without I/O; `coap` has the same for CoAP. A step
//! reads all that is there, refills the window and writes once, so that the generator costs less than what it measures.
#![expect(clippy::disallowed_methods, reason = "a load generator has a clock, sockets and random numbers")]

mod args;
mod client;
mod coap;
mod driver;
mod fleet;
mod identity;
mod latency;
mod link;
mod report;
mod responder;
mod roster;
mod summary;
mod tally;
mod window;

use std::fmt::Display;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::task::LocalSet;
use tokio::time::{MissedTickBehavior, interval};

pub use args::{OutputArg, SimulateArgs, TransportArg, VersionArg};
pub use latency::LatencyHistogram;
pub use roster::RosterError;
pub use summary::{LatencySummary, Summary};

use self::args::Plan;
use self::client::Client;
use self::fleet::{Fleet, Phase};
use self::identity::Identity;
use self::link::Encryption;
use self::report::ReportTemplate;
use self::summary::{Baseline, Counts};
use self::tally::Tally;
use super::check::EXIT_CONFIGURATION;
use super::ledger::LedgerWriter;
use crate::app::{self, Signals};
use crate::codec::mqtt::Qos;
use crate::config::{self, Config, Sources};

/// How often the ledger is brought to the file.
const LEDGER_TICK: Duration = Duration::from_millis(200);
/// Ledger ticks between two lines of progress.
const PROGRESS_TICKS: u32 = 5;
/// Time for devices to say goodbye at the end.
const GOODBYE: Duration = Duration::from_secs(2);

/// Runs the command. Exit code 1 when no device ever was connected, or on an error at run time; 78 when the
/// configuration is needed and has mistakes. It is needed for what `--address`, `--registry` and `--generate` leave
/// open.
pub fn run(args: &SimulateArgs, sources: &Sources) -> ExitCode {
    let needs_config = args.write_registry.is_none()
        && (args.address.is_none() || (args.registry.is_none() && args.generate.is_none()));
    let config = match needs_config.then(|| config::load(sources)).transpose() {
        Ok(loaded) => loaded.map(|loaded| loaded.config),
        Err(mistakes) => {
            complain(&mistakes);
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    match prepare_and_run(args, config.as_ref()) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("simulate: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn prepare_and_run(args: &SimulateArgs, config: Option<&Config>) -> anyhow::Result<ExitCode> {
    let identities = identities(args, config)?;
    if let Some(path) = &args.write_registry {
        roster::write_registry(path, &identities)?;
        return Ok(ExitCode::SUCCESS);
    }
    let address = match (&args.address, config) {
        (Some(address), _) => resolve(address)?,
        (None, Some(config)) => {
            let (listen, key) = match args.transport {
                TransportArg::Mqtt => (&config.mqtt.listen, "mqtt.listen"),
                TransportArg::Mqtts => (&config.mqtt.tls.listen, "mqtt.tls.listen"),
                TransportArg::Coap => (&config.coap.listen, "coap.listen"),
                TransportArg::Dtls => (&config.dtls.listen, "dtls.listen"),
            };
            reachable(*listen.first().with_context(|| format!("{key} is off; give --address"))?)
        }
        (None, None) => return Err(anyhow!("no address")),
    };
    anyhow::ensure!(
        !(args.hold && args.transport == TransportArg::Coap),
        "--hold: CoAP without DTLS has no connection"
    );
    let plan = Plan::new(args, address);
    let seed = getrandom::u64().map_err(|error| anyhow!("no random numbers: {error}"))? | 1;
    let run = format!("{seed:016X}");
    let ledger = match &args.ledger {
        Some(path) => {
            let devices = identities.iter().map(|identity| (identity.product.as_str(), identity.device.as_str()));
            Some(LedgerWriter::create(path, &run, devices).with_context(|| format!("{}", path.display()))?)
        }
        None => None,
    };
    // Each device takes a descriptor. Where they do not suffice, connecting says so.
    let _unchanged = app::raise_open_files();
    let template = ReportTemplate::new(&run, args.payload_bytes as usize);
    let tally = Tally { ledger, ..Tally::default() };
    let fleet = Rc::new(Fleet::new(plan, template, tally, identities.len(), seed));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let summary = LocalSet::new().block_on(&runtime, simulate(args, &run, identities, &fleet))?;
    let text = match args.output {
        OutputArg::Text => summary.to_string(),
        OutputArg::Json => serde_json::to_string(&summary)? + "\n",
    };
    io::stdout().write_all(text.as_bytes()).context("stdout")?;
    Ok(if summary.connected > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn identities(args: &SimulateArgs, config: Option<&Config>) -> anyhow::Result<Vec<Identity>> {
    let count = args.devices as usize;
    if let Some(count) = args.generate {
        return Ok(roster::generate(count, &args.product, &args.prefix, &args.secure_id, &args.secure_key));
    }
    if let Some(path) = &args.registry {
        return Ok(roster::from_registry(path, true, count)?);
    }
    let registry = &config.context("no configuration")?.registry;
    let path = registry.file.as_deref().context("registry.file.path is not set; give --registry or --generate")?;
    Ok(roster::from_registry(path, registry.product_secrets, count)?)
}

async fn simulate(
    args: &SimulateArgs,
    run: &str,
    identities: Vec<Identity>,
    fleet: &Rc<Fleet>,
) -> anyhow::Result<Summary> {
    let mut signals = Signals::new().context("no signals")?;
    let devices = identities.len();
    let mut tasks = tokio::task::JoinSet::new();
    let security = coap::Security::new(args.transport).context("no DTLS")?;
    let encrypts = args.transport == TransportArg::Mqtts;
    let encryption = encrypts.then(Encryption::new).transpose().context("no TLS")?;
    for (index, identity) in (0..).zip(identities) {
        let first_due_ns = fleet.random_below(fleet.plan.interval_ns);
        match &security {
            None => {
                let client = Client::new(index, identity, first_due_ns);
                tasks.spawn_local(driver::drive(Rc::clone(fleet), index, client, encryption.clone()));
            }
            Some(security) => {
                let device = coap::Device::new(index, &identity, security, first_due_ns)
                    .with_context(|| format!("{}: its key has not 16 bytes", identity.device))?;
                tasks.spawn_local(coap::drive(Rc::clone(fleet), index, device, security.clone()));
            }
        }
    }
    let mut watch = Watch::new(args, devices);
    let mut ticks = interval(LEDGER_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => watch.tick(fleet)?,
            () = signals.next() => watch.stop(fleet),
            () = fleet.idle() => {}
        }
        if fleet.busy() == 0 && fleet.phase() == Phase::Running {
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
    let mut tally = fleet.tally.borrow_mut();
    if let Some(ledger) = &mut tally.ledger {
        ledger.end().context("the ledger is incomplete")?;
    }
    Ok(watch.summary(fleet, run, &tally))
}

/// Decides when the simulation goes on to its next phase, and tells how it is doing.
struct Watch<'a> {
    args: &'a SimulateArgs,
    devices: usize,
    ticks: u32,
    shown: Baseline,
    from: Option<Baseline>,
    stopped: Option<Baseline>,
    is_hurried: bool,
}

impl<'a> Watch<'a> {
    fn new(args: &'a SimulateArgs, devices: usize) -> Self {
        let shown = Baseline::default();
        Self { args, devices, ticks: 0, shown, from: None, stopped: None, is_hurried: false }
    }

    fn tick(&mut self, fleet: &Fleet) -> anyhow::Result<()> {
        let now = baseline(fleet);
        self.measure(fleet, now);
        let mut tally = fleet.tally.borrow_mut();
        if let Some(ledger) = &mut tally.ledger {
            ledger.flush().context("the ledger is incomplete")?;
        }
        drop(tally);
        if fleet.phase() == Phase::Running {
            let is_time_up = self.args.duration.is_some_and(|duration| now.at_ns >= nanos(duration));
            if is_time_up {
                self.stop(fleet);
            }
        }
        self.ticks += 1;
        if self.ticks.is_multiple_of(PROGRESS_TICKS) && !self.args.quiet && fleet.alive() > 0 {
            self.progress(fleet, now);
        }
        Ok(())
    }

    /// Finds the begin of what is measured.
    fn measure(&mut self, fleet: &Fleet, now: Baseline) {
        let mut tally = fleet.tally.borrow_mut();
        let is_complete = tally.ever_connected >= self.devices as u64;
        let Some(warmup) = self.args.warmup.filter(|_| is_complete && self.from.is_none()) else { return };
        if now.at_ns >= tally.last_connected_ns + nanos(warmup) {
            tally.latency = LatencyHistogram::default();
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
        let is_settled = fleet.alive() == 0;
        self.is_hurried || is_settled || fleet.now_ns() >= stopped.at_ns + nanos(self.args.grace)
    }

    fn progress(&mut self, fleet: &Fleet, now: Baseline) {
        let tally = fleet.tally.borrow();
        let seconds = (now.at_ns + 500_000_000) / 1_000_000_000;
        let passed_ns = (now.at_ns - self.shown.at_ns).max(1);
        let per_second = |count: u64| count * 1_000_000_000 / passed_ns;
        let sent = per_second(now.sent - self.shown.sent);
        let acknowledged = per_second(now.acknowledged - self.shown.acknowledged);
        let line = match self.args.output {
            OutputArg::Text => format!(
                "{seconds} s: {} of {} connected, {} sent ({sent}/s), {} acknowledged ({acknowledged}/s), p99 {:.1} ms",
                tally.connected,
                self.devices,
                now.sent,
                now.acknowledged,
                Duration::from_micros(tally.latency.quantile_us(0.99)).as_secs_f64() * 1e3
            ),
            OutputArg::Json => format!(
                r#"{{"elapsed_ms":{},"connected":{},"sent":{},"acknowledged":{},"measuring":{}}}"#,
                now.at_ns / 1_000_000,
                tally.connected,
                now.sent,
                now.acknowledged,
                self.from.is_some()
            ),
        };
        complain(&line);
        self.shown = now;
    }

    fn summary(&self, fleet: &Fleet, run: &str, tally: &Tally) -> Summary {
        let stopped = self.stopped.unwrap_or_else(|| baseline(fleet));
        let counts = Counts {
            is_acknowledged: fleet.plan.qos != Qos::AtMostOnce,
            from: self.from.unwrap_or(Baseline {
                at_ns: tally.first_connected_ns.unwrap_or_default(),
                sent: 0,
                acknowledged: 0,
            }),
            until_ns: stopped.at_ns,
            acknowledged_until: stopped.acknowledged,
        };
        Summary::new(run, self.devices as u64, tally, counts)
    }
}

fn baseline(fleet: &Fleet) -> Baseline {
    let tally = fleet.tally.borrow();
    Baseline { at_ns: fleet.now_ns(), sent: tally.sent, acknowledged: tally.acknowledged }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let mut addresses = address.to_socket_addrs().with_context(|| format!("address {address}"))?;
    addresses.next().with_context(|| format!("address {address}: the name has no address"))
}

/// Where a listener of this machine is reached that listens on all addresses.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        let loopback = if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        listen.set_ip(loopback);
    }
    listen
}

fn complain(text: &dyn Display) {
    // Nobody reads stderr: nothing can be said about it either.
    let _ = writeln!(io::stderr(), "{text}");
}
