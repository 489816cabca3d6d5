//! Counters of a simulation.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::ledger::LedgerWriter;
use crate::codec::coap::Code;

/// Reason for the end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// The simulation is over.
    Finished,
    /// The server closed it.
    Closed,
    /// CONNACK refused it with this code.
    Refused(u8),
    /// The socket failed, or could not be connected.
    Failed(std::io::ErrorKind),
    /// No answer to CONNECT in time.
    NoConnack,
    /// No answer to a ping in time.
    NoPingresp,
    /// The server sent what the protocol does not allow.
    Malformed,
    /// No DTLS session came about, or it broke.
    Dtls,
    /// No answer to a CoAP request, however often it was sent.
    NoAnswer,
    /// A CoAP request was answered with this code.
    Answered(Code),
}

impl End {
    /// The reason in words, for counters.
    pub(super) fn name(self) -> String {
        match self {
            End::Finished => "finished".to_owned(),
            End::Closed => "closed by server".to_owned(),
            End::Refused(code) => format!("CONNACK with code {code}, {}", refusal(code)),
            End::Failed(kind) => kind.to_string(),
            End::NoConnack => "no answer to CONNECT".to_owned(),
            End::NoPingresp => "no answer to ping".to_owned(),
            End::Malformed => "malformed packet from server".to_owned(),
            End::Dtls => "DTLS failed".to_owned(),
            End::NoAnswer => "no answer".to_owned(),
            End::Answered(code) => format!("answered {code}"),
        }
    }
}

/// Meaning of a return code of CONNACK (MQTT 3.1.1, 3.2.2.3), and what it says of the bridge.
pub(super) fn refusal(code: u8) -> &'static str {
    match code {
        1 => "unacceptable protocol version",
        2 => "identifier rejected: an id of a device has 1 to 64 bytes",
        3 => "server unavailable: it is full, it ends, or its queue or its registry is away; /readyz tells which",
        4 => "bad user name or password: is the device in the registry, with this key?",
        5 => "not authorized",
        _ => "which MQTT 3.1.1 does not know",
    }
}

/// Longest latency that is told from longer ones, in microseconds: 71 minutes.
const LATENCY_US_MAX: u64 = u32::MAX as u64;

/// Durations in microseconds, in some 30 kB, exact to 1 %; the longest one is exact.
#[derive(Debug)]
pub(super) struct Latencies {
    histogram: Histogram<u64>,
    max_us: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        // Two digits and such a range are among those that every histogram takes.
        let histogram = Histogram::new_with_max(LATENCY_US_MAX, 2).expect("a valid range");
        Self { histogram, max_us: 0 }
    }
}

impl Latencies {
    /// Counts one; above 71 minutes it counts as that.
    pub(super) fn record(&mut self, us: u64) {
        let us = us.min(LATENCY_US_MAX);
        self.histogram.saturating_record(us);
        self.max_us = self.max_us.max(us);
    }

    /// The longest; 0 when there is none.
    pub(super) fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// The duration that `share` (0 to 1) of all do not exceed; 0 when there is none.
    pub(super) fn quantile_us(&self, share: f64) -> u64 {
        self.histogram.value_at_quantile(share).min(self.max_us)
    }
}

/// Counters of all devices, and the ledger.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Reports sent for the first time.
    pub sent: u64,
    /// Reports sent again on another connection.
    pub resent: u64,
    /// Reports whose acknowledgement was read; at QoS 0 none.
    pub acknowledged: u64,
    /// Times from sending a report to its acknowledgement.
    pub latency: Latencies,
    /// Connections that are accepted and open.
    pub connected: u64,
    /// Accepted CONNECTs.
    pub connects: u64,
    /// Accepted CONNECTs of devices that were connected before.
    pub reconnects: u64,
    /// Devices that were connected at least once.
    pub ever_connected: u64,
    /// When the first device was connected, in nanoseconds since the start.
    pub first_connected_ns: Option<u64>,
    /// When the latest device was connected for the first time, in nanoseconds since the start.
    pub last_connected_ns: u64,
    /// Refused CONNECTs by return code.
    pub refused: BTreeMap<u8, u64>,
    /// Ends of connections and of attempts, without refusals and those that this side wanted.
    pub ended: BTreeMap<String, u64>,
    /// Commands that arrived, by topic suffix.
    pub commands: BTreeMap<String, u64>,
    /// Replies to commands sent.
    pub replies: u64,
    /// The ledger, when one is kept.
    pub ledger: Option<LedgerWriter>,
    /// Reasons that are counted for the first time and not told yet, at most one of each kind.
    pub news: Vec<String>,
}

impl Counters {
    /// Counts the end of a connection, or of an attempt where the device `was_connected` not.
    pub(super) fn count_end(&mut self, end: End, was_connected: bool) {
        let count = match end {
            End::Finished => return,
            End::Refused(code) => self.refused.entry(code).or_default(),
            other => self.ended.entry(other.name()).or_default(),
        };
        *count += 1;
        if *count == 1 {
            let what = if was_connected { "a connection ended" } else { "a device cannot connect" };
            self.news.push(format!("{what}: {}", end.name()));
        }
    }

    /// Counts an accepted CONNECT of a device that `was_connected` before or not.
    pub(super) fn count_connect(&mut self, was_connected: bool, now_ns: u64) {
        self.connected += 1;
        self.connects += 1;
        if was_connected {
            self.reconnects += 1;
        } else {
            self.ever_connected += 1;
            self.first_connected_ns.get_or_insert(now_ns);
            self.last_connected_ns = now_ns;
        }
    }

    /// Counts a report, just handed over for the first time.
    pub(super) fn count_sent(&mut self, device: u32, n: u64) {
        self.sent += 1;
        if let Some(ledger) = &mut self.ledger {
            ledger.sent(device, n);
        }
    }

    /// Counts a report's acknowledgement.
    pub(super) fn count_acknowledged(&mut self, device: u32, n: u64, latency_ns: u64) {
        self.acknowledged += 1;
        self.latency.record(latency_ns / 1_000);
        if let Some(ledger) = &mut self.ledger {
            ledger.acknowledged(device, n);
        }
    }

    /// Counts a report that is sent once more.
    pub(super) fn count_resent(&mut self, device: u32, n: u64) {
        self.resent += 1;
        if let Some(ledger) = &mut self.ledger {
            ledger.resent(device, n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_values_within_one_in_a_hundred() {
        let mut latencies = Latencies::default();
        assert_eq!((latencies.quantile_us(0.5), latencies.max_us()), (0, 0));
        (1..=60).for_each(|us| latencies.record(us));
        latencies.record(u64::MAX);
        assert_eq!((latencies.quantile_us(0.5), latencies.quantile_us(0.0)), (31, 1));
        assert_eq!((latencies.quantile_us(1.0), latencies.max_us()), (LATENCY_US_MAX, LATENCY_US_MAX));
        for us in [100, 777, 12_345, 999_999, 59_999_999, LATENCY_US_MAX - 7] {
            let mut latencies = Latencies::default();
            latencies.record(us);
            latencies.record(us);
            latencies.record(2 * us);
            let quantile = latencies.quantile_us(0.5);
            assert!(quantile >= us && quantile - us <= us / 100, "{us} as {quantile}");
        }
    }
}
