//! `run`: the bridge itself, with a terminal for people where there is one.
//!
//! The queue `stdio` takes and gives lines of JSON whatever is before it. On a terminal `Terminal` stands between: it
//! shows envelopes in short, and makes commands of what is typed.
#![expect(clippy::print_stderr, reason = "what goes wrong before there is a log is told on stderr")]

mod line;
mod terminal;
mod typed;

use std::process::ExitCode;

use self::terminal::Terminal;
use super::check::EXIT_CONFIGURATION;
use super::output::Output;
use crate::app::{self, Failure, Startup};
use crate::config::{self, LogFormat, Sources};
use crate::telemetry::log;

/// Help for whoever starts the program alone.
const BUILT_IN: &str = "Without --config the bridge runs on the built-in configuration for development, whose devices are those of \
    config/devices.toml in the current folder. Run it in a copy of the repository, or name a file: \
    jetlinks-bridge run --config FILE";

/// Runs the bridge until ctrl-C or SIGTERM
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct RunArgs {
    /// How envelopes of the queue "stdio" are printed; json: each as one whole object. Without it text on a terminal, else json
    #[arg(long, value_enum)]
    pub output: Option<Output>,
}

/// Runs the bridge. Exit code 0 when all was acknowledged at its end, 78 when the configuration has mistakes, else 1.
pub fn run(args: &RunArgs, sources: &Sources) -> ExitCode {
    let startup = match Startup::begin() {
        Ok(startup) => startup,
        Err(error) => {
            eprintln!("jetlinks-bridge: {error}");
            return ExitCode::FAILURE;
        }
    };
    let loaded = match config::load(sources) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let format = match loaded.config.log.format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
    };
    // Before the log, so that it ends behind it: the last lines are shown.
    let (_terminal, stdio, errors) = Terminal::open(args.output, &loaded.config);
    let log = match log::start(&loaded.config.log.level, format, config::is_log_level, errors) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if loaded.built_in {
        tracing::info!("no --config: this is the built-in configuration for development");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match app::run(&loaded.config, log.control.clone(), startup, stdio) {
        Ok(code) => code,
        Err(Failure::Configuration(error)) => {
            log.say(&format!("{error:#}"));
            if loaded.built_in {
                log.say(BUILT_IN);
            }
            ExitCode::from(EXIT_CONFIGURATION)
        }
        Err(Failure::Run(error)) => {
            log.say(&format!("jetlinks-bridge: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
