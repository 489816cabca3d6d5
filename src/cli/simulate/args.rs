//! The command line of `simulate`.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::input::parse_duration;
use crate::cli::output::Output;
use crate::codec::mqtt::{Qos, Version};
use crate::simulate::{Plan, Progress, Schedule, Transport};

/// Simulates devices that speak MQTT or CoAP: sends reports, answers commands, measures, keeps a ledger.
#[derive(Debug, Clone, Args)]
#[command(after_help = crate::cli::examples::SIMULATE)]
pub struct SimulateArgs {
    /// Where the bridge listens; without it, as the configuration says
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,

    /// How devices speak. CoAP: one CON of each device at a time, no commands; what is said of MQTT below does not apply
    #[arg(long, value_enum, default_value_t = Transport::Mqtt)]
    pub transport: Transport,

    /// Registry file with the devices and their keys; without it, that of the configuration
    #[arg(long, value_name = "FILE", conflicts_with = "generate")]
    pub registry: Option<PathBuf>,

    /// How many devices: the first N of the registry file that are enabled, have a key and are no children
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "generate", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub devices: u32,

    /// Make up N devices instead of reading them from a registry file
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub generate: Option<u32>,

    /// Product of generated devices
    #[arg(long, value_name = "ID", default_value = "product1")]
    pub product: String,

    /// Generated devices are called PREFIX1, PREFIX2, ...
    #[arg(long, value_name = "PREFIX", default_value = "device")]
    pub prefix: String,

    /// Secure id of generated devices
    #[arg(long, value_name = "TEXT", default_value = "test")]
    pub secure_id: String,

    /// Secure key of generated devices; a key for tests, as everyone on this machine can read it
    #[arg(long, value_name = "TEXT", default_value = "testtesttesttest", hide_default_value = true)]
    pub secure_key: String,

    /// Write a registry file with the generated devices, and end
    #[arg(long, value_name = "FILE", requires = "generate")]
    pub write_registry: Option<PathBuf>,

    /// Connect without user name and password, for comparing with a broker that asks for none
    #[arg(long)]
    pub anonymous: bool,

    /// Messages per second and device; 0: as fast as the window allows
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = parse_rate)]
    pub rate: f64,

    /// Quality of service of what devices send
    #[arg(long, value_name = "0|1|2", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,

    /// Most messages of one device that are unacknowledged at a time
    #[arg(long, value_name = "W", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=32_768))]
    pub window: u16,

    /// Size of a report; a report without any filling has about 170 B
    #[arg(long, value_name = "B", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=200_000_000))]
    pub payload_bytes: u32,

    /// End after this time ("30s", "5m")
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    /// End after N messages of each device
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Rate and latencies of the summary leave out this time after the last device has connected
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub warmup: Option<Duration>,

    /// At the end, wait this long for outstanding acknowledgements
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub grace: Duration,

    /// Version of MQTT
    #[arg(long, value_enum, default_value_t = VersionArg::V311)]
    pub version: VersionArg,

    /// Answer commands
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub respond: bool,

    /// Subscribe to all commands at this quality of service, at most 1; without it, as JetLinks devices often do, not at all
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1))]
    pub subscribe: Option<u8>,

    /// Connect again when the connection ends, and send first what was not acknowledged
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub reconnect: bool,

    /// Most connection attempts per second, of all devices together; 0: no limit
    #[arg(long, value_name = "R", default_value_t = 1000)]
    pub connect_rate: u32,

    /// Keep-alive in seconds; a device that gets no answer to its ping in this time connects again; 0: no pings
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub keep_alive: u16,

    /// Connect and send nothing but pings
    #[arg(long, conflicts_with_all = ["count", "ledger"])]
    pub hold: bool,

    /// Write down what was sent and what was acknowledged, for `verify`; the file must not exist
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,

    /// How to print the summary; json: one object, and the progress on stderr is JSON as well
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,

    /// No progress on stderr
    #[arg(long)]
    pub quiet: bool,
}

/// A version of MQTT, as it is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VersionArg {
    /// MQTT 3.1.
    #[value(name = "3.1")]
    V31,
    /// MQTT 3.1.1.
    #[value(name = "3.1.1")]
    V311,
}

impl SimulateArgs {
    /// Behaviour of the devices.
    pub(super) fn plan(&self, address: SocketAddr) -> Plan {
        let qos_of = |bits| Qos::from_bits(bits).unwrap_or(Qos::AtLeastOnce);
        Plan {
            address,
            transport: self.transport,
            anonymous: self.anonymous,
            interval_ns: if self.rate > 0.0 { ((1e9 / self.rate) as u64).max(1) } else { 0 },
            qos: qos_of(self.qos),
            window: usize::from(self.window),
            count: if self.hold { 0 } else { self.count.unwrap_or(u64::MAX) },
            version: match self.version {
                VersionArg::V31 => Version::V31,
                VersionArg::V311 => Version::V311,
            },
            respond: self.respond,
            subscribe: self.subscribe.map(qos_of),
            reconnect: self.reconnect,
            connect_interval_ns: 1_000_000_000 / u64::from(self.connect_rate.max(1)) * u64::from(self.connect_rate > 0),
            keep_alive_secs: self.keep_alive,
        }
    }

    /// When it goes on to its next phase.
    pub(super) fn schedule(&self) -> Schedule {
        Schedule { duration: self.duration, warmup: self.warmup, grace: self.grace }
    }

    /// How it tells on stderr how far it is.
    pub(super) fn progress(&self) -> Progress {
        match self.output {
            _ if self.quiet => Progress::Quiet,
            Output::Text if io::stderr().is_terminal() => Progress::Bar,
            Output::Text => Progress::Text,
            Output::Json => Progress::Json,
        }
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=1e9).contains(&rate) => Ok(rate),
        _ => Err("a number of messages per second, 0 or more".to_owned()),
    }
}
