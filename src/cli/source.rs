//! Where the configuration comes from, as arguments.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::config::{ENVIRONMENT_PREFIX, Sources};

/// `--config` and `--set`, the same for every subcommand.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct SourceArgs {
    /// Read this configuration file; may be repeated, a later file replaces keys of an earlier one
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Vec<PathBuf>,

    /// Set a key, over files and environment; may be repeated
    #[arg(long, value_name = "SECTION.KEY=VALUE", global = true)]
    pub set: Vec<String>,
}

impl SourceArgs {
    /// The sources, with these environment variables (`std::env::vars_os`). A variable of the bridge that is no UTF-8
    /// becomes one with replacement characters, and most likely a mistake.
    pub fn sources(&self, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Sources {
        let own = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        Sources { files: self.config.clone(), environment: own.collect(), settings: self.set.clone() }
    }
}
