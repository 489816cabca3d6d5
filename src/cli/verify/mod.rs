//! `verify`: a ledger against the queue.
//!
//! [`Book`] (what was acknowledged) and the stored records, one after the other as [`Evidence`], go into a [`Judge`]; its
//! [`Verdict`] is printed.

mod args;
mod consumer;
mod evidence;
mod judge;
mod source;
mod verdict;

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

pub use args::VerifyArgs;
pub use consumer::Taken;
pub use evidence::{Evidence, StoredCopy};
pub use judge::{Judge, Rule};
pub use verdict::{Disorder, EXAMPLES_MAX, Loss, Verdict};

use super::check::EXIT_CONFIGURATION;
use super::ledger::Book;
use super::simulate::OutputArg;
use super::terminal;
use crate::config::{self, Config, Sources};

/// Bytes taken from a file of envelopes at a time.
const READ_BYTES: usize = 1 << 18;

/// Ids that are remembered of a session where no configuration tells: as many as a window holds by default.
const DEFAULT_WINDOW: usize = 64;

/// Runs the command: exit code 0 when nothing is lost, nothing out of order and no id used twice; else, or on an error at
/// run time, 1; 78 when the configuration is needed and has mistakes. `--envelopes` does without it.
pub fn run(args: &VerifyArgs, sources: &Sources) -> ExitCode {
    let needs_config = args.envelopes.is_none();
    let config = match needs_config.then(|| config::load(sources)).transpose() {
        Ok(loaded) => loaded.map(|loaded| loaded.config),
        Err(mistakes) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "{mistakes}");
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    match judge(args, config.as_ref()) {
        Ok(verdict) => {
            let text = match args.output {
                OutputArg::Text => verdict.to_string(),
                OutputArg::Json => format!("{}\n", serde_json::json!(verdict)),
            };
            // As above for stdout; the exit code still tells.
            let _ = io::stdout().write_all(terminal::escaped(&text).as_bytes());
            if verdict.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            // As above.
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

fn judge(args: &VerifyArgs, config: Option<&Config>) -> anyhow::Result<Verdict> {
    let name = |path: &Path| path.display().to_string();
    let ledger = File::open(&args.ledger).with_context(|| name(&args.ledger))?;
    let book = Book::read(BufReader::new(ledger)).with_context(|| name(&args.ledger))?;
    let mut judge = Judge::new(book, rule(args, config));
    match (&args.envelopes, config) {
        (Some(path), _) if path == Path::new("-") => {
            source::read_lines(io::stdin().lock(), &mut judge).context("stdin")?;
        }
        (Some(path), _) => {
            let file = File::open(path).with_context(|| name(path))?;
            let input = BufReader::with_capacity(READ_BYTES, file);
            source::read_lines(input, &mut judge).with_context(|| name(path))?;
        }
        (None, config) => source::read_queue(config.context("no configuration")?, &mut judge)?,
    }
    Ok(judge.verdict())
}
