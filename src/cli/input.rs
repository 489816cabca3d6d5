//! Input of subcommands: the configuration, and arguments that are a text or the place of one.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::{self, Config, ENVIRONMENT_PREFIX, Loaded, Sources, parse};

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
    /// becomes one with replacement characters, and most likely a mistake. Those that look like one of the bridge come too,
    /// so that a slip is told.
    pub fn sources(&self, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Sources {
        let own = environment
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.to_ascii_uppercase().starts_with(ENVIRONMENT_PREFIX.trim_end_matches('_')))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()));
        Sources { files: self.config.clone(), environment: own.collect(), settings: self.set.clone() }
    }
}

/// The configuration. `None` where it has mistakes: they go to `err`, and the exit code is 78.
pub fn configuration(sources: &Sources, err: &mut dyn Write) -> Option<Config> {
    loaded(sources, err).map(|loaded| loaded.config)
}

/// As [`configuration`], with what else was learnt of it.
pub fn loaded(sources: &Sources, err: &mut dyn Write) -> Option<Loaded> {
    // Nobody is left to tell when stderr is closed.
    config::load(sources).inspect_err(|mistakes| drop(writeln!(err, "{mistakes}"))).ok()
}

/// Where a listener of this machine is reached that listens on all addresses.
pub(super) fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        let loopback = if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        listen.set_ip(loopback);
    }
    listen
}

/// Where this machine reaches the admin listener of that configuration; the default address where it is off.
pub(super) fn admin_address(config: &Config) -> String {
    let first = config.admin.listen.first().copied();
    reachable(first.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)))).to_string()
}

/// The duration that an argument says; clap tells the error.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse::duration(text).ok_or_else(|| format!("expected {}", parse::DURATION))
}

/// The text itself, the content of the file after `@`, or for `-` that of stdin.
///
/// # Errors
/// The system's, with the name of the file.
pub fn text_or_file(argument: &str) -> io::Result<Vec<u8>> {
    if argument == "-" {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    match argument.strip_prefix('@') {
        Some(path) => fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}"))),
        None => Ok(argument.as_bytes().to_vec()),
    }
}
