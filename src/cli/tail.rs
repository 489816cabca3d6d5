//! `tail`: what the bridge writes, as it writes it.

use std::io::{self, Write};
use std::process::ExitCode;

use super::block_on;
use super::check::EXIT_CONFIGURATION;
use super::envelope::{self, Summary};
use super::input::configuration;
use super::lookup::CONNECTION_NAME;
use crate::app::Signals;
use crate::app::settings;
use crate::config::{Config, Sources, UplinkQueue};
use crate::queue::kafka::KafkaReader;
use crate::queue::nats::NatsReader;
use crate::queue::{ReadError, ReadFrom, Stored};

/// Prints envelopes as they are stored, one a line, until ctrl-C
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct TailArgs {
    /// Only envelopes about this device, or about a child behind it; may be repeated
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<String>,

    /// Only this type: properties.report, org.jetlinks.device.properties.report or REPORT_PROPERTY; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Vec<String>,

    /// End after so many envelopes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
enum TailError {
    /// `uplink.queue` is stdio.
    #[error("uplink.queue is \"stdio\": the envelopes are on the bridge's own stdout")]
    Stdio,
    /// The queue cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The system's.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Prints what is stored from this moment on to `out`. Exit code 0 at ctrl-C, at the end of `--count` and when nobody
/// reads `out` any more, 78 when the configuration has mistakes or names no queue that can be read, else 1.
pub fn run(args: &TailArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let config = match configuration(sources, err) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let outcome = block_on(tail(args, &config, out, err)).map_err(TailError::Io);
    match outcome.flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // As above.
            let _ = writeln!(err, "tail: {error}");
            let is_configuration = matches!(error, TailError::Stdio | TailError::Read(ReadError::Settings(_)));
            if is_configuration { ExitCode::from(EXIT_CONFIGURATION) } else { ExitCode::FAILURE }
        }
    }
}

async fn tail(args: &TailArgs, config: &Config, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), TailError> {
    let mut source = Source::open(config).await?;
    // Whoever waits for the stream to be there before he lets something happen reads this.
    let _ = writeln!(err, "tail: reading {}", source.name());
    let mut left = args.count;
    let mut signals = Signals::new().map_err(TailError::Io)?;
    while left != Some(0) {
        let stored = tokio::select! {
            () = signals.next() => return Ok(()),
            stored = source.next() => stored,
        };
        let stored = match stored {
            Err(error @ (ReadError::Unreadable(_) | ReadError::Waiting(_))) => {
                // As above.
                let _ = writeln!(err, "tail: {error}");
                continue;
            }
            stored => stored?,
        };
        let Some(stored) = stored else { return Ok(()) };
        if !is_meant(args, &stored) {
            continue;
        }
        if writeln!(out, "{}", envelope::line(&stored.attributes, &stored.payload)).and_then(|()| out.flush()).is_err()
        {
            return Ok(());
        }
        left = left.map(|left| left - 1);
    }
    Ok(())
}

fn is_meant(args: &TailArgs, stored: &Stored) -> bool {
    if args.device.is_empty() && args.kind.is_empty() {
        return true;
    }
    let Some(summary) = Summary::of(&stored.attributes, &stored.payload) else { return false };
    let is_device = |id: &String| *id == summary.device || *id == summary.gateway;
    let is_kind = |kind: &String| {
        let short = summary.kind.strip_prefix("org.jetlinks.device.");
        let short = short.or_else(|| summary.kind.strip_prefix("org.jetlinks.bridge."));
        *kind == summary.kind || Some(kind.as_str()) == short || *kind == summary.message_type
    };
    (args.device.is_empty() || args.device.iter().any(is_device))
        && (args.kind.is_empty() || args.kind.iter().any(is_kind))
}

/// Queue that is read.
enum Source {
    Nats(Box<NatsReader>, String),
    /// The topic of device messages and that of rejected ones.
    Kafka(Box<[KafkaReader; 2]>, String),
}

impl Source {
    async fn open(config: &Config) -> Result<Self, TailError> {
        match config.uplink.queue {
            UplinkQueue::Stdio => Err(TailError::Stdio),
            UplinkQueue::Nats => {
                let settings = settings::nats(config, CONNECTION_NAME);
                let reader = NatsReader::open(&settings, "", ReadFrom::Now).await?;
                Ok(Source::Nats(Box::new(reader), format!("stream {}", settings.stream)))
            }
            UplinkQueue::Kafka => {
                let settings = settings::kafka(config, CONNECTION_NAME)
                    .ok_or_else(|| ReadError::Settings("kafka.brokers is not set".to_owned()))?;
                let open = |topic: &str| KafkaReader::open(&settings, topic, ReadFrom::Now);
                let topics = [&settings.uplink_topic, &settings.rejected_topic];
                let readers = [open(topics[0])?, open(topics[1])?];
                Ok(Source::Kafka(Box::new(readers), format!("topics {} and {}", topics[0], topics[1])))
            }
        }
    }

    fn name(&self) -> &str {
        match self {
            Source::Nats(_, name) | Source::Kafka(_, name) => name,
        }
    }

    async fn next(&mut self) -> Result<Option<Stored>, ReadError> {
        match self {
            Source::Nats(reader, _) => reader.next().await,
            Source::Kafka(readers, _) => {
                let [messages, rejected] = &mut **readers;
                tokio::select! {
                    stored = messages.next() => stored,
                    stored = rejected.next() => stored,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Position;

    fn stored(text: &str) -> Stored {
        Stored {
            place: Position::Sequence(1),
            address: String::new(),
            payload: text.to_owned().into(),
            content_type: None,
            attributes: Vec::new(),
        }
    }

    #[test]
    fn filters_take_a_device_with_its_children_and_any_name_of_a_type() {
        let report = stored(
            r#"{"type":"org.jetlinks.device.properties.report","deviceid":"child1","gatewayid":"gw1","data":{"messageType":"REPORT_PROPERTY"}}"#,
        );
        let is_meant = |devices: &[&str], kinds: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            is_meant(&TailArgs { device: own(devices), kind: own(kinds), count: None }, &report)
        };
        assert!(is_meant(&[], &[]));
        assert!(is_meant(&["child1"], &[]) && is_meant(&["gw1"], &[]) && is_meant(&["x", "gw1"], &[]));
        assert!(!is_meant(&["x"], &[]) && !is_meant(&["gw"], &[]));
        for kind in ["properties.report", "org.jetlinks.device.properties.report", "REPORT_PROPERTY"] {
            assert!(is_meant(&[], &[kind]) && is_meant(&["gw1"], &["event", kind]) && !is_meant(&["x"], &[kind]));
        }
        assert!(!is_meant(&[], &["report"]));
    }

    #[test]
    fn what_is_no_envelope_passes_no_filter() {
        let args = TailArgs { kind: vec!["event".to_owned()], ..TailArgs::default() };
        assert!(!is_meant(&args, &stored("x")) && is_meant(&TailArgs::default(), &stored("x")));
    }
}
