//! The command line of `verify`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::simulate::OutputArg;

/// Compares a ledger with the queue: is every acknowledged message stored, in order, how often?
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The ledger that `simulate` wrote
    #[arg(long, value_name = "FILE")]
    pub ledger: PathBuf,

    /// Read the stored envelopes from this file, one a line, instead of from the queue; "-" is stdin
    #[arg(long, value_name = "FILE")]
    pub envelopes: Option<PathBuf>,

    /// How many ids of each session a consumer remembers to drop copies by [default: limits.inflight_per_connection of the
    /// configuration, with --envelopes 64]
    #[arg(long, value_name = "IDS", value_parser = clap::value_parser!(u16).range(1..=16_384))]
    pub window: Option<u16>,

    /// Judge order by the last copy of each message: more than the bridge promises
    #[arg(long, conflicts_with = "window")]
    pub last_copies: bool,

    /// How the verdict is printed
    #[arg(long, value_enum, default_value_t = OutputArg::Text)]
    pub output: OutputArg,
}
