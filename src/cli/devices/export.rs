//! `devices export`: all records, to be read again.

use std::io::Write;

use super::{DevicesError, ExportArgs};
use crate::cli::output::{self, Output};
use crate::registry::nats::{Bucket, IfMissing, StoredDevice};
use crate::registry::{NatsRegistrySettings, write_device, write_toml};

/// The text to print; records that cannot be read are left out, and told.
pub(super) async fn export(
    args: &ExportArgs,
    settings: &NatsRegistrySettings,
    err: &mut dyn Write,
) -> Result<String, DevicesError> {
    let (stored, products) = Bucket::open(settings, IfMissing::Fail).await?.records().await?;
    let mut devices = Vec::with_capacity(stored.len());
    for device in stored {
        match device {
            StoredDevice::Device(device) => devices.push(device),
            StoredDevice::Unreadable(key, mistakes) => {
                let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                let text = format!("{}: left out: {}", key.text(), mistakes.join("; "));
                // Nobody is left to tell when stderr is closed.
                let _ = writeln!(err, "devices: {}", output::escaped(&text));
            }
        }
    }
    Ok(match args.output {
        Output::Text => write_toml(&products, &devices),
        Output::Json => {
            let line = |device| String::from_utf8_lossy(&write_device(device)).into_owned() + "\n";
            devices.iter().map(line).collect()
        }
    })
}
