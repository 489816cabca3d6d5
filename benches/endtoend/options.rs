//! Arguments of the benchmark.

use std::path::PathBuf;

use clap::Parser;

use crate::load::Load;
use crate::peer::Peer;

/// Compares the bridge with Mosquitto under the same load
#[derive(Debug, Parser)]
pub(crate) struct Options {
    /// How often everything is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,

    /// Seconds of steady load that are measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) seconds: u64,

    /// Loads: devices and unacknowledged messages of each over MQTT, or devices over CoAP
    #[arg(long, value_delimiter = ',', default_value = "100x20,100x1,1000x1,mqtts:100x20,coap:100,dtls:100")]
    pub(crate) loads: Vec<Load>,

    /// Servers to measure; all by default
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) peers: Vec<Peer>,

    /// Another build of the bridge: each peer that is a bridge is measured beside the same one of that build, on one core
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) beside: Option<PathBuf>,

    /// Measure the time to acknowledgements once more at half of the rate that each server took
    #[arg(long, conflicts_with = "beside")]
    pub(crate) half: bool,

    /// Write all figures, the machine, the versions and the commit as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Draw the cost of a message over the number of devices, for loads of one window, as SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) curve: Option<PathBuf>,

    /// Flag that cargo passes to every benchmark
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Options {
    /// Servers to measure, in the order of a round.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        if self.peers.is_empty() { Peer::ALL.to_vec() } else { self.peers.clone() }
    }
}
