//! The command line of `devices`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::examples;
use crate::cli::output::Output;

/// Lists and changes the devices in the registry of NATS KV
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = examples::DEVICES)]
pub struct DevicesArgs {
    /// The subcommand of `devices`.
    #[command(subcommand)]
    pub action: DevicesAction,
}

/// A subcommand of `devices`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum DevicesAction {
    /// List the devices; keys are not shown
    Ls(LsArgs),
    /// Show the record of one device; its key is not shown
    Get(GetArgs),
    /// Create or replace the record of one device
    Put(PutArgs),
    /// Delete records of devices; their sessions end
    Rm(RmArgs),
    /// Write the records of a file; nothing is written when one of them has a mistake
    Import(ImportArgs),
    /// Print all records, keys included, as import and the file of a registry read them
    Export(ExportArgs),
}

/// The command line of `devices ls`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = examples::DEVICES_LS)]
pub struct LsArgs {
    /// Only devices of this product
    #[arg(long, value_name = "PRODUCT")]
    pub product: Option<String>,

    /// How to print; json: one object a line
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// The command line of `devices get`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = examples::DEVICES_GET)]
pub struct GetArgs {
    /// Id of the device
    #[arg(value_name = "DEVICE")]
    pub id: String,

    /// How to print; json: one object
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// The command line of `devices export`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = examples::DEVICES_EXPORT)]
pub struct ExportArgs {
    /// How to print; text: TOML with devices and products; json: one device a line, without products
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// The command line of `devices put`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = examples::DEVICES_PUT)]
#[command(group = clap::ArgGroup::new("key").requires("secure_id"))]
pub struct PutArgs {
    /// Id of the device, 1 to 64 bytes
    #[arg(long)]
    pub id: String,

    /// Id of its product
    #[arg(long)]
    pub product: String,

    /// Public half of its secret
    #[arg(long, value_name = "TEXT", requires = "key")]
    pub secure_id: Option<String>,

    /// Secret half; others on this machine can read it while the command runs
    #[arg(long, value_name = "TEXT", group = "key")]
    pub secure_key: Option<String>,

    /// File with the secret half; the line break at its end does not count
    #[arg(long, value_name = "FILE", group = "key")]
    pub secure_key_file: Option<PathBuf>,

    /// Read the secret half from stdin
    #[arg(long, group = "key")]
    pub secure_key_stdin: bool,

    /// Gateway that speaks for the device
    #[arg(long, value_name = "DEVICE")]
    pub gateway: Option<String>,

    /// Refuse the device
    #[arg(long)]
    pub disabled: bool,
}

/// The command line of `devices rm`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = examples::DEVICES_RM)]
pub struct RmArgs {
    /// Ids of the devices
    #[arg(required = true, value_name = "DEVICE")]
    pub ids: Vec<String>,
}

/// The command line of `devices import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(after_help = examples::DEVICES_IMPORT)]
pub struct ImportArgs {
    /// TOML as in the file of a registry; or devices as JSON, one a line or a list; or as CSV whose first line names id, product,
    /// secure_id, secure_key, gateway, enabled; - is stdin
    pub file: PathBuf,

    /// Import the records without a mistake although others have one
    #[arg(long)]
    pub keep_going: bool,
}
