//! Arguments, log, exit code.
#![expect(clippy::print_stderr, reason = "what goes wrong before there is a log is told on stderr")]

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use jetlinks_bridge::app::{self, Failure, Startup};
use jetlinks_bridge::cli::check::{self, EXIT_CONFIGURATION};
use jetlinks_bridge::cli::{
    self, Action, CommandLine, credentials, devices, explain, health, manual, schema, send, shed, simulate, tail, trace,
    verify,
};
use jetlinks_bridge::config::{self, LogFormat, Sources};
use jetlinks_bridge::telemetry::log;
use jetlinks_bridge::transport::Clock;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let sources = line.source.sources(std::env::vars_os());
    let (out, err): (&mut dyn Write, &mut dyn Write) = (&mut io::stdout(), &mut io::stderr());
    match &line.action {
        Action::Run => run(&sources),
        Action::Check(args) => check::run(args, &sources, out, err),
        Action::Completions(args) => cli::print_completions(args, out),
        Action::Credentials(args) => credentials::run(args, &sources, Clock::new().now().unix_ms, out, err),
        Action::Devices(args) => devices::run(args, &sources, out, err, io::stderr().is_terminal()),
        Action::Explain(args) => explain::run(args, &sources, out, err),
        Action::Health(args) => health::run(args, &sources, err),
        Action::Manual(args) => manual::run(args, err),
        Action::Schema(args) => schema::run(args, &sources, out, err),
        Action::Send(args) => send::run(args, &sources, out, err),
        Action::Shed(args) => shed::run(args, &sources, out, err),
        Action::Simulate(args) => simulate::run(args, &sources),
        Action::Tail(args) => tail::run(args, &sources, out, err),
        Action::Trace(args) => trace::run(args, &sources, out, err),
        Action::Verify(args) => verify::run(args, &sources),
    }
}

fn run(sources: &Sources) -> ExitCode {
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
    let log = match log::start(&loaded.config.log.level, format, config::is_log_level) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match app::run(&loaded.config, log.control.clone(), startup) {
        Ok(code) => code,
        Err(Failure::Configuration(error)) => {
            log.say(&format!("{error:#}"));
            ExitCode::from(EXIT_CONFIGURATION)
        }
        Err(Failure::Run(error)) => {
            log.say(&format!("jetlinks-bridge: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
