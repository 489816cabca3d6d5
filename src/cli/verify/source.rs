//! Where stored envelopes are read from.

use std::io::{self, BufRead, Write};

use anyhow::{Context, bail};

use super::{Evidence, Judge};
use crate::app::settings;
use crate::config::{Config, UplinkQueue};
use crate::queue::kafka::KafkaReader;
use crate::queue::nats::NatsReader;
use crate::queue::{ReadError, ReadFrom, Stored};

/// What the connections of this command are called at the queue.
const CONNECTION_NAME: &str = "jetlinks-bridge-verify";
/// Where device messages are, below the prefix.
const SUBJECTS: &str = "device.>";

/// Takes everything that the queue of device messages holds at this moment.
pub(super) fn read_queue(config: &Config, judge: &mut Judge) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        match config.uplink.queue {
            UplinkQueue::Nats => {
                let settings = settings::nats(config, CONNECTION_NAME);
                let mut reader = NatsReader::open(&settings, SUBJECTS, ReadFrom::Beginning).await?;
                while let Some(stored) = reader.next().await? {
                    judge.take(&evidence(&stored));
                }
            }
            UplinkQueue::Kafka => {
                let settings = settings::kafka(config, CONNECTION_NAME).context("kafka.brokers is not set")?;
                let mut reader = KafkaReader::open(&settings, &settings.uplink_topic, ReadFrom::Beginning)?;
                loop {
                    match reader.next().await {
                        Ok(Some(stored)) => judge.take(&evidence(&stored)),
                        Ok(None) => break,
                        Err(error @ ReadError::Waiting(_)) => {
                            // Nobody is left to tell when stderr is closed.
                            let _ = writeln!(io::stderr(), "verify: {error}");
                        }
                        Err(ReadError::Unreadable(part)) => {
                            // As above; the verdict still counts it.
                            let _ = writeln!(io::stderr(), "verify: {part}");
                            judge.take(&Evidence::structured(b""));
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            UplinkQueue::Stdio => bail!("uplink.queue is stdio, which keeps nothing: give --envelopes FILE"),
        }
        Ok(())
    })
}

/// Takes every line as an envelope; empty lines are none.
pub(super) fn read_lines(mut input: impl BufRead, judge: &mut Judge) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            judge.take(&Evidence::structured(text));
        }
    }
}

fn evidence(stored: &Stored) -> Evidence<'_> {
    let attribute = |wanted| stored.attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    match (attribute("id"), attribute("deviceid")) {
        (Some(id), Some(device)) => Evidence::binary(id, device, &stored.payload),
        _ => Evidence::structured(&stored.payload),
    }
}
