//! `verify`: a ledger against the queue.
//!
//! The messages acknowledged by the ledger and the stored records, one after the other as [`StoredRecord`], go into a
//! [`Comparison`]; its [`Report`] is printed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use clap::Args;

use super::check::EXIT_CONFIGURATION;
use super::input::{configuration, parse_duration};
use super::output::{self, Output};
use crate::app::settings;
use crate::config::{Config, Sources, UplinkQueue};
use crate::queue::kafka::KafkaReader;
use crate::queue::nats::NatsReader;
use crate::queue::{ReadError, ReadFrom, Stored};
use crate::simulate::ledger::Ledger;
use crate::simulate::verify::{Comparison, Report, Rule, StoredRecord};

/// Bytes taken from a file of envelopes at a time.
const READ_BYTES: usize = 1 << 18;

/// Ids that are remembered of a session where no configuration tells: as many as a window holds by default.
const DEFAULT_WINDOW: usize = 64;
/// Name of the connections of this command, as the queue shows it.
const CONNECTION_NAME: &str = "jetlinks-bridge-verify";
/// Where device messages are, below the prefix.
const SUBJECTS: &str = "device.>";

/// Compares a ledger with the queue: is every acknowledged message stored, in order, how often?
#[derive(Debug, Clone, Args)]
#[command(after_help = crate::cli::examples::VERIFY)]
pub struct VerifyArgs {
    /// The ledger that `simulate` wrote
    #[arg(long, value_name = "FILE")]
    pub ledger: PathBuf,

    /// Read the stored envelopes from this file, one a line, instead of from the queue; "-" is stdin
    #[arg(long, value_name = "FILE")]
    pub envelopes: Option<PathBuf>,

    /// Read only what the queue stored in this last time ("10m"), instead of all that it holds; the run must have begun in it
    #[arg(long, value_name = "DURATION", conflicts_with = "envelopes", value_parser = parse_duration)]
    pub since: Option<Duration>,

    /// How many ids of each session a consumer remembers to drop copies by [default: limits.inflight_per_connection of the
    /// configuration, with --envelopes 64]
    #[arg(long, value_name = "IDS", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    pub window: Option<u16>,

    /// Check order by the last copy of each message: more than the bridge promises
    #[arg(long, conflicts_with = "window")]
    pub last_copies: bool,

    /// How to print; json: one object with the counts, and the first losses and disorders
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// Runs the command: exit code 0 when nothing is lost, nothing out of order and no id used twice; else, or on an error at
/// run time, 1; 78 when the configuration is needed and has mistakes. `--envelopes` does without it.
pub fn run(args: &VerifyArgs, sources: &Sources) -> ExitCode {
    let needs_config = args.envelopes.is_none();
    let config = if needs_config { configuration(sources, &mut io::stderr()) } else { None };
    if needs_config && config.is_none() {
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    match compare(args, config.as_ref()) {
        Ok(report) => {
            let text = match args.output {
                Output::Text => report.to_string(),
                Output::Json => format!("{}\n", serde_json::json!(report)),
            };
            // Nobody is left to tell when stdout is closed; the exit code still tells.
            let _ = io::stdout().write_all(output::escaped_lines(&text).as_bytes());
            if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "verify: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn rule(args: &VerifyArgs, config: Option<&Config>) -> Rule {
    if args.last_copies {
        return Rule::LastCopies;
    }
    let configured = config.map_or(DEFAULT_WINDOW, |config| config.limits.inflight_per_connection);
    Rule::ById { window: args.window.map_or(configured, usize::from) }
}

fn compare(args: &VerifyArgs, config: Option<&Config>) -> anyhow::Result<Report> {
    let name = |path: &Path| path.display().to_string();
    let ledger = File::open(&args.ledger).with_context(|| name(&args.ledger))?;
    let ledger = Ledger::read(BufReader::new(ledger)).with_context(|| name(&args.ledger))?;
    let mut comparison = Comparison::new(ledger, rule(args, config));
    match (&args.envelopes, config) {
        (Some(path), _) if path == Path::new("-") => {
            read_lines(io::stdin().lock(), &mut comparison).context("stdin")?;
        }
        (Some(path), _) => {
            let file = File::open(path).with_context(|| name(path))?;
            let input = BufReader::with_capacity(READ_BYTES, file);
            read_lines(input, &mut comparison).with_context(|| name(path))?;
        }
        (None, config) => read_queue(config.context("no configuration")?, read_from(args), &mut comparison)?,
    }
    Ok(comparison.report())
}

#[expect(clippy::disallowed_methods, reason = "the time of `--since` ends now")]
fn read_from(args: &VerifyArgs) -> ReadFrom {
    // Longer ago than the clock can tell is the beginning.
    let begin = args.since.and_then(|since| SystemTime::now().checked_sub(since));
    begin.map_or(ReadFrom::Beginning, ReadFrom::Time)
}

/// Takes what the queue of device messages holds at this moment, from there on.
fn read_queue(config: &Config, from: ReadFrom, comparison: &mut Comparison) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        match config.uplink.queue {
            UplinkQueue::Nats => {
                let settings = settings::nats(config, CONNECTION_NAME);
                let mut reader = NatsReader::open(&settings, SUBJECTS, from).await?;
                while let Some(stored) = reader.next().await? {
                    comparison.take(&record(&stored));
                }
            }
            UplinkQueue::Kafka => {
                let settings = settings::kafka(config, CONNECTION_NAME).context("kafka.brokers is not set")?;
                let mut reader = KafkaReader::open(&settings, &settings.uplink_topic, from)?;
                loop {
                    match reader.next().await {
                        Ok(Some(stored)) => comparison.take(&record(&stored)),
                        Ok(None) => break,
                        Err(error @ ReadError::Waiting(_)) => {
                            // Nobody is left to tell when stderr is closed.
                            let _ = writeln!(io::stderr(), "verify: {error}");
                        }
                        Err(ReadError::Unreadable(part)) => {
                            // Nobody is left to tell when stderr is closed; the report still counts it.
                            let _ = writeln!(io::stderr(), "verify: {part}");
                            comparison.take(&StoredRecord::structured(b""));
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            UplinkQueue::Stdio => bail!("uplink.queue is stdio, which keeps nothing: give --envelopes FILE"),
        }
        Ok(())
    })
}

/// Takes every line as an envelope; empty lines are none.
fn read_lines(mut input: impl BufRead, comparison: &mut Comparison) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            comparison.take(&StoredRecord::structured(text));
        }
    }
}

fn record(stored: &Stored) -> StoredRecord<'_> {
    let attribute = |wanted| stored.attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    match (attribute("id"), attribute("deviceid")) {
        (Some(id), Some(device)) => StoredRecord::binary(id, device, &stored.payload),
        _ => StoredRecord::structured(&stored.payload),
    }
}
