//! The last envelopes that are stored already.

use std::io::Write;

use super::source::{Reader, Source};
use super::{TailArgs, TailError, is_meant};
use crate::config::Config;
use crate::queue::{ReadError, ReadFrom, Stored};

/// Envelopes that are looked at first where a filter leaves some out; of each partition of a Kafka topic.
const SPAN: u64 = 1_000;

/// Envelopes that are looked at, at most; of each partition.
const SPAN_MAX: u64 = 1_000_000;

/// Growth of the span, when it held too few.
const GROWTH: u64 = 10;

/// The last `--last` envelopes that are meant, the oldest first: on Kafka by their timestamps. Those that `follow` will come
/// to are left to it.
pub(super) async fn look_back(
    args: &TailArgs,
    config: &Config,
    follow: Option<&Source>,
    err: &mut dyn Write,
) -> Result<Vec<Stored>, TailError> {
    let wanted = usize::from(args.last.unwrap_or_default());
    let has_filter = !args.device.is_empty() || !args.kind.is_empty();
    let mut span = if has_filter { SPAN.max(wanted as u64) } else { wanted as u64 };
    loop {
        let mut source = Source::open(config, ReadFrom::Last(span)).await?;
        let mut found = Vec::new();
        for (at, reader) in source.readers.iter_mut().enumerate() {
            let later = follow.and_then(|follow| follow.readers.get(at));
            read(reader, later, args, wanted, &mut found, err).await?;
        }
        keep(&mut found, wanted);
        let is_whole = source.readers.iter().all(Reader::is_whole);
        if found.len() >= wanted || is_whole {
            return Ok(found);
        }
        if span >= SPAN_MAX {
            // Nobody is left to tell when stderr is closed.
            let _ =
                writeln!(err, "tail: {} among the last {span} envelopes; older ones are not looked at", found.len());
            return Ok(found);
        }
        span = span.saturating_mul(GROWTH).min(SPAN_MAX);
    }
}

async fn read(
    reader: &mut Reader,
    later: Option<&Reader>,
    args: &TailArgs,
    wanted: usize,
    found: &mut Vec<Stored>,
    err: &mut dyn Write,
) -> Result<(), TailError> {
    loop {
        let stored = match reader.next().await {
            Ok(Some(stored)) => stored,
            Ok(None) => return Ok(()),
            Err(error @ (ReadError::Unreadable(_) | ReadError::Waiting(_))) => {
                // Nobody is left to tell when stderr is closed.
                let _ = writeln!(err, "tail: {error}");
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if is_meant(args, &stored) && !later.is_some_and(|later| later.is_ahead_of(stored.place)) {
            found.push(stored);
            // What does not count any more need not be held.
            if found.len() >= 4 * wanted {
                keep(found, wanted);
            }
        }
    }
}

/// Leaves the last ones, in their order.
fn keep(found: &mut Vec<Stored>, wanted: usize) {
    // Stable: envelopes of one time stay in the order of their partition.
    found.sort_by_key(|stored| stored.stored_ms);
    found.drain(..found.len().saturating_sub(wanted));
}
