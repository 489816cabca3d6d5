//! `devices import`: many records at once.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream;

use super::progress::Progress;
use super::{DevicesError, ImportArgs, warn_of_keys};
use crate::registry::nats::{Bucket, BucketError, IfMissing};
use crate::registry::{Device, NatsRegistrySettings, Product, RecordMistakes, Records};

/// Records that are written before the first of them is acknowledged.
const UNDERWAY: usize = 256;

/// One record to write.
enum Record {
    Device(Arc<Device>),
    Product(Product),
}

/// A record with what names it in a message.
struct Named {
    name: String,
    record: Record,
}

/// Reads and checks the whole file, then writes its records; the text to print.
pub(super) async fn import(
    args: &ImportArgs,
    (settings, place): (&NatsRegistrySettings, &str),
    err: &mut dyn Write,
    is_terminal: bool,
) -> Result<String, DevicesError> {
    let text = read(&args.file).map_err(|error| DevicesError::File(args.file.clone(), error))?;
    let records = Records::read(&text, settings.product_secrets);
    let mistakes = RecordMistakes(records.mistakes);
    if !mistakes.0.is_empty() && !args.keep_going {
        return Err(DevicesError::Mistakes(args.file.clone(), mistakes));
    }
    warn_of_keys(records.devices.iter().map(|device| &*device.record), err);
    if !settings.product_secrets && records.products.iter().any(|product| product.record.credentials.is_some()) {
        // Nobody is left to tell when stderr is closed.
        let _ = writeln!(err, "warning: secrets of products count only with registry.product_secrets = true");
    }
    let (devices, products) = (records.devices.len(), records.products.len());
    // Products first: a device that uses the secret of its product finds it.
    let products_named = records.products.into_iter().map(|product| Named {
        name: format!("product {:?} (line {})", product.record.id, product.line),
        record: Record::Product(product.record),
    });
    let devices_named = records.devices.into_iter().map(|device| Named {
        name: format!("device {:?} (line {})", device.record.id, device.line),
        record: Record::Device(device.record),
    });
    let named = products_named.chain(devices_named).collect();
    let bucket = Bucket::open(settings, IfMissing::Make).await?;
    write(&bucket, named, Progress::new(err, is_terminal, devices + products)).await?;
    let text = format!("imported {devices} devices and {products} products into {place}\n");
    if mistakes.0.is_empty() {
        return Ok(text);
    }
    // Nobody is left to tell when stderr is closed.
    let _ = write!(err, "{text}");
    Err(DevicesError::Partly(args.file.clone(), mistakes))
}

fn read(file: &Path) -> io::Result<String> {
    if file != Path::new("-") {
        return fs::read_to_string(file);
    }
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

async fn write(bucket: &Bucket, records: Vec<Named>, mut progress: Progress<'_>) -> Result<(), DevicesError> {
    let total = records.len();
    progress.show(0);
    let writing = stream::iter(records).map(async |Named { name, record }| {
        let written = match &record {
            Record::Device(device) => bucket.put_device(device).await,
            Record::Product(product) => bucket.put_product(product).await,
        };
        written.map_err(|cause: BucketError| (name, cause))
    });
    let mut writing = std::pin::pin!(writing.buffered(UNDERWAY));
    let mut imported = 0;
    while let Some(written) = writing.next().await {
        if let Err((next, cause)) = written {
            progress.end();
            return Err(DevicesError::Halfway { imported, total, next, cause });
        }
        imported += 1;
        progress.show(imported);
    }
    progress.end();
    Ok(())
}
