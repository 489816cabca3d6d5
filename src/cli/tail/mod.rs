//! `tail`: what the bridge writes, as it writes it, and what it wrote last.

mod args;
mod look_back;
mod source;

use std::io::{self, Write};
use std::process::ExitCode;

pub use args::TailArgs;

use self::look_back::look_back;
use self::source::Source;
use super::block_on;
use super::check::EXIT_CONFIGURATION;
use super::envelope::{self, Summary};
use super::input::configuration;
use crate::app::Signals;
use crate::config::{Config, Sources};
use crate::queue::{ReadError, ReadFrom, Stored};

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

/// Prints the last that were stored, where they are asked for, and what is stored from this moment on, to `out`. Exit code 0 at ctrl-C, at the end of `--count` and when nobody
/// reads `out` any more, 78 when the configuration has mistakes or names no queue that can be read, else 1.
pub fn run(args: &TailArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let Some(config) = configuration(sources, err) else { return ExitCode::from(EXIT_CONFIGURATION) };
    let outcome = block_on(tail(args, &config, out, err)).map_err(TailError::Io);
    match outcome.flatten() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(err, "tail: {error}");
            let is_configuration = matches!(error, TailError::Stdio | TailError::Read(ReadError::Settings(_)));
            if is_configuration { ExitCode::from(EXIT_CONFIGURATION) } else { ExitCode::FAILURE }
        }
    }
}

async fn tail(args: &TailArgs, config: &Config, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), TailError> {
    let mut signals = Signals::new().map_err(TailError::Io)?;
    // Opened before it is looked back, so that nothing is stored between the two.
    let follow = if args.no_follow { None } else { Some(Source::open(config, ReadFrom::Now).await?) };
    if let Some(follow) = &follow {
        // Whoever waits for the stream to be there before he lets something happen reads this.
        let _ = writeln!(err, "tail: reading {}", follow.name());
    }
    let mut left = args.count.unwrap_or(u64::MAX);
    if args.last.is_some() {
        let stored = tokio::select! {
            () = signals.next() => return Ok(()),
            stored = look_back(args, config, follow.as_ref(), err) => stored?,
        };
        if stored.is_empty() && follow.is_none() {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(err, "tail: nothing is stored that is meant");
        }
        for stored in stored {
            if left == 0 || !print(&stored, out) {
                return Ok(());
            }
            left -= 1;
        }
    }
    let Some(mut follow) = follow else { return Ok(()) };
    while left > 0 {
        let stored = tokio::select! {
            () = signals.next() => return Ok(()),
            stored = follow.next() => stored,
        };
        let stored = match stored {
            Err(error @ (ReadError::Unreadable(_) | ReadError::Waiting(_))) => {
                // Nobody is left to tell when stderr is closed.
                let _ = writeln!(err, "tail: {error}");
                continue;
            }
            stored => stored?,
        };
        let Some(stored) = stored else { return Ok(()) };
        if !is_meant(args, &stored) {
            continue;
        }
        if !print(&stored, out) {
            return Ok(());
        }
        left -= 1;
    }
    Ok(())
}

/// Prints one line; whether somebody reads it.
fn print(stored: &Stored, out: &mut dyn Write) -> bool {
    writeln!(out, "{}", envelope::line(&stored.attributes, &stored.payload)).and_then(|()| out.flush()).is_ok()
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
            stored_ms: 0,
        }
    }

    #[test]
    fn filters_take_a_device_with_its_children_and_any_name_of_a_type() {
        let report = stored(
            r#"{"type":"org.jetlinks.device.properties.report","deviceid":"child1","gatewayid":"gw1","data":{"messageType":"REPORT_PROPERTY"}}"#,
        );
        let is_meant = |devices: &[&str], kinds: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            is_meant(&TailArgs { device: own(devices), kind: own(kinds), ..TailArgs::default() }, &report)
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
