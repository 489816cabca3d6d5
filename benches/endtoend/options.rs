//! Arguments of the benchmark.

use std::path::PathBuf;

use clap::Parser;

use crate::growth::Growth;
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

    /// Servers to measure; those of the comparison by default, and the bridge into JetStream for growths
    #[arg(long, value_delimiter = ',', value_enum)]
    pub(crate) peers: Vec<Peer>,

    /// Another build of the bridge: each peer that is a bridge is measured beside the same one of that build, on one core
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) beside: Option<PathBuf>,

    /// Measure each bridge at the same time as Mosquitto, on cores of their own where the machine has four, else both on one
    #[arg(long, conflicts_with = "beside")]
    pub(crate) pairs: bool,

    /// Measure cost and time to acknowledgements once more at half of the rate that each server took, in an open loop
    #[arg(long, conflicts_with_all = ["beside", "pairs"])]
    pub(crate) half: bool,

    /// Instead of loads: how a message's cost and time change as connections, replicas, registry, products or workers grow; with other
    /// values than the usual ones as in connections:100:1000
    #[arg(long, value_name = "QUANTITY[:VALUE...]", value_delimiter = ',', conflicts_with_all = ["beside", "pairs"])]
    pub(crate) grow: Vec<Growth>,

    /// Draw each growth as SVG into this folder
    #[arg(long, value_name = "FOLDER", requires = "grow")]
    pub(crate) plots: Option<PathBuf>,

    /// Write all figures, the machine, the versions and the commit as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Flag that cargo passes to every benchmark
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Options {
    /// Servers to measure, in the order of a round.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        match (self.peers.is_empty(), self.grow.is_empty()) {
            (true, true) => Peer::ALL.to_vec(),
            (true, false) => vec![Peer::Jetstream],
            (false, _) => self.peers.clone(),
        }
    }
}
