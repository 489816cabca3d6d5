//! The subcommands.

pub mod argument;
pub mod check;
mod coap_lines;
pub mod credentials;
pub mod devices;
pub mod envelope;
pub mod explain;
pub mod health;
pub mod lookup;
pub mod runtime;
pub mod send;
pub mod simulate;
pub mod source;
pub mod tail;
mod terminal;
pub mod verify;

use clap::{Parser, Subcommand};

use self::check::CheckArgs;
use self::credentials::CredentialsArgs;
use self::devices::DevicesArgs;
use self::explain::ExplainArgs;
use self::health::HealthArgs;
use self::send::SendArgs;
use self::simulate::SimulateArgs;
use self::source::SourceArgs;
use self::tail::TailArgs;
use self::verify::VerifyArgs;

/// Bridges devices that speak the JetLinks official protocol to Kafka, NATS or stdout
#[derive(Debug, Parser)]
#[command(name = "jetlinks-bridge", version, disable_help_subcommand = true)]
pub struct CommandLine {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub source: SourceArgs,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Run the bridge
    Run,
    /// Check the configuration and print it as resolved
    Check(CheckArgs),
    /// Print user name and password of a device, valid for five minutes
    Credentials(CredentialsArgs),
    /// List and change the devices in the registry of NATS KV
    Devices(DevicesArgs),
    /// Show what becomes of a message or of a command
    Explain(ExplainArgs),
    /// Ask a running bridge whether it lives
    Health(HealthArgs),
    /// Send a command to a device and print its outcome
    Send(SendArgs),
    /// Simulate devices
    Simulate(Box<SimulateArgs>),
    /// Print envelopes as they are stored
    Tail(TailArgs),
    /// Compare a ledger of simulated devices with the queue
    Verify(VerifyArgs),
}
