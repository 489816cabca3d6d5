//! `devices`: the registry in NATS KV.

mod args;
mod error;
mod export;
mod import;
mod list;
mod progress;

use std::fs;
use std::io::{self, Read, Write};
use std::process::ExitCode;

pub use args::{DevicesAction, DevicesArgs, ExportArgs, GetArgs, ImportArgs, LsArgs, PutArgs, RmArgs};
pub use error::DevicesError;

use super::check::EXIT_CONFIGURATION;
use super::input::configuration;
use super::lookup::CONNECTION_NAME;
use super::{block_on, output};
use crate::app::settings;
use crate::config::{Config, RegistrySource, Sources};
use crate::protocol::cipher::KEY_BYTES;
use crate::protocol::id::{DeviceId, IdError, ProductId};
use crate::protocol::secret::Secret;
use crate::queue::nats::ConnectionTallies;
use crate::registry::nats::{Bucket, IfMissing, Key};
use crate::registry::{Credentials, Device, NatsRegistrySettings, RecordError};

/// Devices that are named in one warning.
const NAMED_MAX: usize = 5;

/// Does what the command line says. Exit code 0 when all was done, 78 when the configuration has mistakes, else 1.
/// `is_terminal`: whether a person looks at `err`.
pub fn run(
    args: &DevicesArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
    is_terminal: bool,
) -> ExitCode {
    let Some(config) = configuration(sources, err) else { return ExitCode::from(EXIT_CONFIGURATION) };
    match act(&args.action, &config, err, is_terminal) {
        Ok(text) => {
            // Nobody is left to tell when stdout is closed.
            let _ = out.write_all(output::escaped_lines(&text).as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            for line in error.to_string().lines() {
                // Nobody is left to tell when stderr is closed.
                let _ = writeln!(err, "devices: {}", output::escaped(line));
            }
            if error.is_configuration() { ExitCode::from(EXIT_CONFIGURATION) } else { ExitCode::FAILURE }
        }
    }
}

fn act(
    action: &DevicesAction,
    config: &Config,
    err: &mut dyn Write,
    is_terminal: bool,
) -> Result<String, DevicesError> {
    if !config.has_nats_servers() {
        return Err(DevicesError::NoServers);
    }
    let settings = settings::nats_registry(config, CONNECTION_NAME, &ConnectionTallies::default())
        .map_err(DevicesError::Settings)?;
    if config.registry.source != RegistrySource::Nats {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(
            err,
            "warning: the bridge of this configuration does not read bucket {}: its registry.source is {:?}",
            settings.bucket,
            config.registry.source.word(),
        );
    }
    let place = place(&settings);
    let work = async {
        match action {
            DevicesAction::Ls(args) => {
                let bucket = Bucket::open(&settings, IfMissing::Fail).await?;
                Ok(list::show(&bucket.devices().await?, args, err))
            }
            DevicesAction::Get(args) => get(&Bucket::open(&settings, IfMissing::Fail).await?, args, err).await,
            DevicesAction::Export(args) => export::export(args, &settings, err).await,
            DevicesAction::Put(args) => {
                let device = device(args, settings.product_secrets)?;
                warn_of_keys([&device].into_iter(), err);
                Bucket::open(&settings, IfMissing::Make).await?.put_device(&device).await?;
                Ok(format!("put {} of {} into {place}\n", device.id, device.product))
            }
            DevicesAction::Rm(args) => {
                let bucket = Bucket::open(&settings, IfMissing::Fail).await?;
                remove(&bucket, &args.ids, &place).await
            }
            DevicesAction::Import(args) => import::import(args, (&settings, &place), err, is_terminal).await,
        }
    };
    block_on(work).map_err(DevicesError::Io)?
}

/// The bucket and its servers, for messages.
fn place(settings: &NatsRegistrySettings) -> String {
    let servers = settings.servers.iter().map(|server| format!("{}:{}", server.host(), server.port()));
    format!("bucket {} at {}", settings.bucket, servers.collect::<Vec<_>>().join(", "))
}

async fn get(bucket: &Bucket, args: &GetArgs, err: &mut dyn Write) -> Result<String, DevicesError> {
    let unknown = || DevicesError::Unknown(vec![args.id.clone()]);
    let key = Key::Device(DeviceId::new(&args.id).map_err(|_| unknown())?);
    let stored = bucket.device(&key).await?.ok_or_else(unknown)?;
    Ok(list::show(&[stored], &LsArgs { product: None, output: args.output }, err))
}

async fn remove(bucket: &Bucket, ids: &[String], place: &str) -> Result<String, DevicesError> {
    let (mut text, mut unknown) = (String::new(), Vec::new());
    for id in ids {
        let was_there = match DeviceId::new(id) {
            Ok(id) => bucket.delete(&Key::Device(id)).await?,
            Err(_) => false,
        };
        if was_there {
            text.push_str(&format!("removed {id} from {place}\n"));
        } else {
            unknown.push(id.clone());
        }
    }
    if unknown.is_empty() { Ok(text) } else { Err(DevicesError::Unknown(unknown)) }
}

/// The record that the command line of `put` describes.
fn device(args: &PutArgs, product_secrets: bool) -> Result<Device, DevicesError> {
    let mut mistakes = Vec::new();
    let note = |mistakes: &mut Vec<RecordError>, key, error: IdError| mistakes.push(RecordError::Id(key, error));
    let id = DeviceId::new(&args.id).map_err(|error| note(&mut mistakes, "--id", error)).ok();
    let product = ProductId::new(&args.product).map_err(|error| note(&mut mistakes, "--product", error)).ok();
    let gateway = args.gateway.as_deref().map(DeviceId::new).transpose();
    let gateway = gateway.map_err(|error| note(&mut mistakes, "--gateway", error)).ok().flatten();
    let credentials = match (&args.secure_id, key(args)?) {
        (Some(secure_id), Some(secure_key)) => {
            if secure_id.is_empty() || secure_key.is_empty() {
                mistakes.push(RecordError::HalfSecret("--secure-id", "--secure-key"));
            }
            if secure_id.contains('|') {
                mistakes.push(RecordError::SecureId("--secure-id"));
            }
            Some(Credentials { secure_id: secure_id.as_str().into(), secure_key: Secret::new(secure_key) })
        }
        _ => None,
    };
    if gateway.is_some() && gateway == id {
        mistakes.push(RecordError::OwnGateway);
    }
    if credentials.is_none() && args.gateway.is_none() && !product_secrets {
        mistakes.push(RecordError::NoSecret);
    }
    match (id, product) {
        (Some(id), Some(product)) if mistakes.is_empty() => {
            Ok(Device { id, product, credentials, enabled: !args.disabled, gateway, children: Box::default() })
        }
        _ => Err(DevicesError::Record(mistakes)),
    }
}

/// The secret half, from wherever it is; the line break at its end does not count.
fn key(args: &PutArgs) -> Result<Option<String>, DevicesError> {
    let text = if let Some(path) = &args.secure_key_file {
        fs::read_to_string(path).map_err(|error| DevicesError::File(path.clone(), error))?
    } else if args.secure_key_stdin {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map_err(|error| DevicesError::File("-".into(), error))?;
        text
    } else {
        return Ok(args.secure_key.clone());
    };
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Says which keys CoAP with encrypted payloads cannot use.
fn warn_of_keys<'d>(devices: impl Iterator<Item = &'d Device>, err: &mut dyn Write) {
    let odd: Vec<&str> = devices.filter(|device| device.cannot_encrypt()).map(|device| device.id.as_str()).collect();
    let Some(more) = odd.len().checked_sub(1) else { return };
    let named = odd.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    let rest = if more >= NAMED_MAX { format!(" and {} more", odd.len() - NAMED_MAX) } else { String::new() };
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(
        err,
        "warning: keys that do not have {KEY_BYTES} bytes cannot encrypt CoAP (MQTT and DTLS take them): {named}{rest}"
    );
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DevicesArgs,
    }

    fn put(arguments: &str) -> Result<Device, String> {
        let line = Line::try_parse_from(["x", "put"].into_iter().chain(arguments.split(' ')));
        let DevicesAction::Put(args) = line.map_err(|error| error.kind().to_string())?.args.action else {
            panic!("no put")
        };
        device(&args, false).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_describes_a_record() {
        let device = put("--id device1 --product product1 --secure-id test --secure-key k --disabled").unwrap();
        assert_eq!((device.expected().secure_id, device.expected().secure_key, device.enabled), ("test", "k", false));
        let child = put("--id child1 --product product1 --gateway gw1").unwrap();
        assert_eq!((child.gateway.as_ref().map(DeviceId::as_str), child.credentials), (Some("gw1"), None));
    }

    #[test]
    fn mistakes_of_the_command_line_are_all_told() {
        let told = put("--id a/b --product p# --secure-id a|b --secure-key k --gateway g+").unwrap_err();
        assert_eq!(
            told.lines().collect::<Vec<_>>(),
            [
                "--id: an id must not contain '/'",
                "--product: an id must not contain '#'",
                "--gateway: an id must not contain '+'",
                "--secure-id must not contain |",
            ]
        );
        assert_eq!(put("--id a --product p").unwrap_err(), "neither a secret nor a gateway: it could never speak");
        assert_eq!(put("--id a --product p --gateway a").unwrap_err(), "a device is not its own gateway");
        let missing = "one or more required arguments were not provided";
        assert_eq!(put("--id a --product p --secure-id x").unwrap_err(), missing);
        assert_eq!(put("--id a --product p --secure-key x").unwrap_err(), missing);
        let conflict = "an argument cannot be used with one or more of the other specified arguments";
        let two = "--id a --product p --secure-id x --secure-key x --secure-key-stdin";
        assert_eq!(put(two).unwrap_err(), conflict);
    }

    #[test]
    fn keys_that_encrypt_nothing_are_warned_of_without_being_shown() {
        let device =
            |id: &str, key: &str| put(&format!("--id {id} --product p --secure-id x --secure-key {key}")).unwrap();
        let warn = |devices: &[Device]| {
            let mut err = Vec::new();
            warn_of_keys(devices.iter(), &mut err);
            String::from_utf8(err).unwrap()
        };
        assert_eq!(warn(&[device("a", "testtesttesttest")]), "");
        let few = warn(&[device("a", "hush"), device("b", "testtesttesttest"), device("c", "hush")]);
        assert!(few.ends_with(": a, c\n") && !few.contains("hush"), "{few}");
        let many: Vec<Device> = (1..=7).map(|number| device(&format!("d{number}"), "hush")).collect();
        assert!(warn(&many).ends_with(": d1, d2, d3, d4, d5 and 2 more\n"));
    }
}
