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

    /// How the verdict is printed
    #[arg(long, value_enum, default_value_t = OutputArg::Text)]
    pub output: OutputArg,
}
