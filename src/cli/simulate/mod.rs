//! `simulate`: devices that speak MQTT or CoAP; sends reports, answers commands, measures, keeps a ledger.

mod args;

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;

use anyhow::{Context, anyhow};

pub use args::{SimulateArgs, VersionArg};

use super::check::EXIT_CONFIGURATION;
use super::input::{configuration, reachable};
use super::output::Output;
use crate::config::{Config, Sources};
use crate::simulate::identities;
use crate::simulate::{Identity, Simulation, Transport};

/// Runs the command. Exit code 1 when no device ever was connected, or on an error at run time; 78 when the
/// configuration is needed and has mistakes. It is needed for what `--address`, `--registry` and `--generate` leave
/// open.
pub fn run(args: &SimulateArgs, sources: &Sources) -> ExitCode {
    let needs_config = args.write_registry.is_none()
        && (args.address.is_none() || (args.registry.is_none() && args.generate.is_none()));
    let config = if needs_config { configuration(sources, &mut io::stderr()) } else { None };
    if needs_config && config.is_none() {
        return ExitCode::from(EXIT_CONFIGURATION);
    }
    match prepare_and_run(args, config.as_ref()) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "simulate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn prepare_and_run(args: &SimulateArgs, config: Option<&Config>) -> anyhow::Result<ExitCode> {
    let identities = identities(args, config)?;
    if let Some(path) = &args.write_registry {
        identities::write_registry(path, &identities)?;
        return Ok(ExitCode::SUCCESS);
    }
    let address = match (&args.address, config) {
        (Some(address), _) => resolve(address)?,
        (None, Some(config)) => {
            let (listen, key) = match args.transport {
                Transport::Mqtt => (&config.mqtt.listen, "mqtt.listen"),
                Transport::Mqtts => (&config.mqtt.tls.listen, "mqtt.tls.listen"),
                Transport::Coap => (&config.coap.listen, "coap.listen"),
                Transport::Dtls => (&config.dtls.listen, "dtls.listen"),
            };
            reachable(*listen.first().with_context(|| format!("{key} is off; give --address"))?)
        }
        (None, None) => return Err(anyhow!("no address")),
    };
    anyhow::ensure!(!(args.hold && args.transport == Transport::Coap), "--hold: CoAP without DTLS has no connection");
    let simulation = Simulation {
        plan: args.plan(address),
        identities,
        schedule: args.schedule(),
        payload_bytes: args.payload_bytes as usize,
        ledger: args.ledger.as_deref(),
        progress: args.progress(),
    };
    let summary = simulation.run()?;
    let text = match args.output {
        Output::Text => summary.to_string(),
        Output::Json => serde_json::to_string(&summary)? + "\n",
    };
    io::stdout().write_all(text.as_bytes()).context("stdout")?;
    Ok(if summary.connected > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn identities(args: &SimulateArgs, config: Option<&Config>) -> anyhow::Result<Vec<Identity>> {
    let count = args.devices as usize;
    if let Some(count) = args.generate {
        return Ok(identities::generate(count, &args.product, &args.prefix, &args.secure_id, &args.secure_key));
    }
    if let Some(path) = &args.registry {
        return Ok(identities::from_registry(path, true, count)?);
    }
    let registry = &config.context("no configuration")?.registry;
    let path = registry.file.as_deref().context("registry.file.path is not set; give --registry or --generate")?;
    Ok(identities::from_registry(path, registry.product_secrets, count)?)
}

fn resolve(address: &str) -> anyhow::Result<SocketAddr> {
    let mut addresses = address.to_socket_addrs().with_context(|| format!("address {address}"))?;
    addresses.next().with_context(|| format!("address {address}: the name has no address"))
}
