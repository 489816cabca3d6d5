//! Cost of sessions and commands: CONNECTs, handshakes of TLS and DTLS, idle connections, the interest in commands, claims between
//! replicas, and the way of a command to a device and of its reply back.
//!
//! Each row starts a fresh bridge (and nats-server where it needs one) and simulated devices. Costs are differences of
//! processor time and resident memory of the server's process between two moments, divided by what happened between.
#![expect(clippy::print_stdout, reason = "the table is the result")]
#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark owns the clock, the sockets and the processes that it starts"
)]

#[path = "../endtoend/machine.rs"]
mod machine;
#[path = "../endtoend/processor.rs"]
mod processor;
#[path = "../../tests/support/mod.rs"]
mod support;

mod commands;
mod handshakes;
mod idle;
mod interests;

use clap::Parser;

/// Measurements.
#[derive(Debug, Parser)]
struct Options {
    /// Idle connections; a process here may hold 20,000 descriptors
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    connections: u32,
    /// Sessions over TLS and DTLS; one of DTLS takes a descriptor and a port
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=19_000))]
    handshakes: u32,
    /// Interests in commands that NATS servers hold
    #[arg(long, default_value_t = 200_000)]
    interests: u32,
    /// Commands a second
    #[arg(long, default_value_t = 1_000)]
    commands: u32,
    /// Seconds of commands
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
    idle::measure(options.connections);
    handshakes::measure(options.handshakes);
    interests::measure(options.interests);
    commands::measure(options.commands, options.seconds);
}
