//! Cost of sessions and commands: CONNECTs, handshakes of TLS and DTLS, idle connections, the interest in commands, claims between
//! replicas, the way of a command to a device and of its reply back, and devices that all come back.
//!
//! Each row starts a fresh bridge (and nats-server where it needs one) and simulated devices. Costs are differences of
//! processor time and resident memory of the server's process between two moments, divided by what happened between.
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark owns the clock, the sockets and the processes that it starts"
)]

#[path = "../endtoend/broker.rs"]
mod broker;
#[path = "../endtoend/machine.rs"]
mod machine;
#[path = "../endtoend/processor.rs"]
mod processor;
#[path = "../../tests/support/mod.rs"]
mod support;

mod bare;
mod comeback;
mod commands;
mod handshakes;
mod idle;
mod interests;
mod resumption;

use clap::{Parser, ValueEnum};

/// A kind of measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// CONNECTs, and connections that say nothing.
    Idle,
    /// Handshakes of TLS and DTLS, and sessions that rest.
    Handshakes,
    /// Handshakes of TLS, full and resumed.
    Resumption,
    /// Memory of NATS servers for the interest in commands.
    Interests,
    /// Commands and their outcomes.
    Commands,
    /// Devices that come back, and those that stayed.
    Comeback,
}

/// Measurements.
#[derive(Debug, Parser)]
struct Options {
    /// What to measure; all by default
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Part>,
    /// Idle connections; a process here may hold 20,000 descriptors
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    connections: u32,
    /// Rounds of CONNECTs and idle connections
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Sessions over TLS and DTLS; one of DTLS takes a descriptor and a port
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    handshakes: u32,
    /// TLS handshakes in each round of full and of resumed ones
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..))]
    resumptions: u32,
    /// Interests in commands that NATS servers hold
    #[arg(long, default_value_t = 200_000)]
    interests: u32,
    /// Commands a second
    #[arg(long, default_value_t = 1_000)]
    commands: u32,
    /// Devices that come back at once
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    comeback: u32,
    /// CONNECTs a second of the devices that come back
    #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..))]
    comeback_rate: u32,
    /// Seconds of each measurement of commands
    #[arg(long, default_value_t = 5)]
    seconds: u32,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    machine::raise_file_limit();
    println!("machine: {}", machine::Machine::find());
    let parts = if options.only.is_empty() { Part::value_variants() } else { &options.only };
    for part in parts {
        match part {
            Part::Idle => idle::measure(options.connections, options.rounds),
            Part::Handshakes => handshakes::measure(options.handshakes),
            Part::Resumption => resumption::measure(options.resumptions),
            Part::Interests => interests::measure(options.interests),
            Part::Commands => commands::measure(options.commands, options.seconds),
            Part::Comeback => comeback::measure(options.comeback, options.comeback_rate),
        }
    }
}
