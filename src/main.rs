//! Arguments and exit code.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::Parser;
use jetlinks_bridge::cli::{
    self, Action, CommandLine, check, credentials, devices, explain, health, manual, run, schema, send, shed, simulate,
    tail, trace, verify,
};
use jetlinks_bridge::transport::Clock;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let sources = line.source.sources(std::env::vars_os());
    let (out, err): (&mut dyn Write, &mut dyn Write) = (&mut io::stdout(), &mut io::stderr());
    match &line.action {
        Action::Run(args) => run::run(args, &sources),
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
