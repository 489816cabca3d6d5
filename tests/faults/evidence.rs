//! Figures computed from stored envelopes.

use std::time::Duration;

pub(crate) use crate::support::stored::{Stored, online, read_stream, read_topic};

/// The type of what devices of the load send.
const REPORT: &str = "org.jetlinks.device.properties.report";

/// The longest time between two reports that were stored one after the other.
pub(crate) fn longest_gap(stored: &[Stored]) -> Duration {
    let mut times: Vec<i128> =
        stored.iter().filter(|stored| stored.envelope["type"] == REPORT).map(|stored| stored.at).collect();
    times.sort_unstable();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    Duration::from_nanos(u64::try_from(longest).unwrap_or_default())
}
