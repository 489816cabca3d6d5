//! Summary of a simulation.

use std::fmt;

use serde::Serialize;
use std::collections::BTreeMap;

use super::counters::{Counters, End, Latencies};

/// The result of a simulation; its fields are those of the JSON output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The run's id: its messages carry it as property `run`.
    pub run: String,
    /// Devices that were to be simulated.
    pub devices: u64,
    /// Devices that were connected at least once.
    pub connected: u64,
    /// Seconds from the first connection to the end of sending, without the warm-up.
    pub seconds: f64,
    /// Reports sent, each counted once.
    pub sent: u64,
    /// Reports sent again on another connection.
    pub resent: u64,
    /// Reports acknowledged.
    pub acknowledged: u64,
    /// Reports sent above QoS 0 whose acknowledgement never came.
    pub unacknowledged: u64,
    /// Reports per second: acknowledged ones, at QoS 0 those sent; without the warm-up.
    pub rate: f64,
    /// Time from sending to acknowledgement, ms; without the warm-up. `None` where nothing was acknowledged.
    pub latency_ms: Option<LatencySummary>,
    /// Seconds from the start until the latest of the devices was connected for the first time.
    pub connecting_seconds: f64,
    /// Accepted CONNECTs.
    pub connects: u64,
    /// Accepted CONNECTs of devices that were connected before.
    pub reconnects: u64,
    /// Refused CONNECTs by return code.
    pub refused: BTreeMap<u8, u64>,
    /// Connections that ended and attempts that failed, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Commands that arrived, by topic suffix.
    pub commands: BTreeMap<String, u64>,
    /// Replies sent.
    pub replies: u64,
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencySummary {
    /// Half are at most this long.
    pub p50: f64,
    /// 90 % are at most this long.
    pub p90: f64,
    /// 95 % are at most this long.
    pub p95: f64,
    /// 99 % are at most this long.
    pub p99: f64,
    /// 99.9 % are at most this long.
    pub p999: f64,
    /// None is longer.
    pub max: f64,
}

impl LatencySummary {
    fn of(latencies: &Latencies) -> Option<Self> {
        let ms = |us: u64| us as f64 / 1e3;
        (!latencies.is_empty()).then(|| Self {
            p50: ms(latencies.quantile_us(0.5)),
            p90: ms(latencies.quantile_us(0.9)),
            p95: ms(latencies.quantile_us(0.95)),
            p99: ms(latencies.quantile_us(0.99)),
            p999: ms(latencies.quantile_us(0.999)),
            max: ms(latencies.max_us()),
        })
    }
}

/// The end of a line of progress: 99 % of the latencies are at most this long. Empty where there is none.
pub(super) fn p99(latencies: &Latencies) -> String {
    LatencySummary::of(latencies).map_or(String::new(), |summary| format!(", p99 {:.1} ms", summary.p99))
}

/// Begin of the measured part of a simulation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Baseline {
    /// Nanoseconds since the start of the simulation.
    pub at_ns: u64,
    /// Reports sent until then.
    pub sent: u64,
    /// Reports acknowledged until then.
    pub acknowledged: u64,
}

impl Summary {
    /// Sums up. `until_ns` is when sending ended.
    pub(super) fn new(run: &str, devices: u64, counters: &Counters, counts: Counts) -> Self {
        let Counts { is_acknowledged, from, until_ns, acknowledged_until } = counts;
        let seconds = until_ns.saturating_sub(from.at_ns) as f64 / 1e9;
        let measured = if is_acknowledged { acknowledged_until - from.acknowledged } else { counters.sent - from.sent };
        Self {
            run: run.to_owned(),
            devices,
            connected: counters.ever_connected,
            seconds,
            sent: counters.sent,
            resent: counters.resent,
            acknowledged: counters.acknowledged,
            unacknowledged: if is_acknowledged { counters.sent - counters.acknowledged } else { 0 },
            rate: if seconds > 0.0 { measured as f64 / seconds } else { 0.0 },
            latency_ms: LatencySummary::of(&counters.latency),
            connecting_seconds: counters.last_connected_ns as f64 / 1e9,
            connects: counters.connects,
            reconnects: counters.reconnects,
            refused: counters.refused.clone(),
            ended: counters.ended.clone(),
            commands: counters.commands.clone(),
            replies: counters.replies,
        }
    }
}

/// Figures beside the counters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    /// Whether reports are acknowledged at all.
    pub is_acknowledged: bool,
    /// Begin of what is measured.
    pub from: Baseline,
    /// End of sending.
    pub until_ns: u64,
    /// Reports acknowledged by then.
    pub acknowledged_until: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "run             {}", self.run)?;
        writeln!(f, "devices         {} connected of {}", self.connected, self.devices)?;
        writeln!(f, "sent            {} ({} resent)", self.sent, self.resent)?;
        writeln!(f, "acknowledged    {}, missing {}", self.acknowledged, self.unacknowledged)?;
        writeln!(f, "rate            {:.1} messages/s over {:.1} s", self.rate, self.seconds)?;
        if let Some(LatencySummary { p50, p90, p99, p999, max, .. }) = self.latency_ms {
            writeln!(f, "acknowledgement p50 {p50:.2}, p90 {p90:.2}, p99 {p99:.2}, p99.9 {p999:.2}, max {max:.2} ms")?;
        }
        writeln!(f, "connects        {} ({} reconnects)", self.connects, self.reconnects)?;
        for (code, count) in &self.refused {
            writeln!(f, "refused         {count}: {}", End::Refused(*code).name())?;
        }
        for (reason, count) in &self.ended {
            writeln!(f, "ended           {count}: {reason}")?;
        }
        for (suffix, count) in &self.commands {
            writeln!(f, "commands        {count}: {suffix}")?;
        }
        writeln!(f, "replies         {}", self.replies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_percentiles_of_latencies_and_the_time_of_connecting() {
        let mut counters = Counters { last_connected_ns: 1_500_000_000, ..Counters::default() };
        (1..=10_000).for_each(|us| counters.latency.record(us));
        let from = Baseline::default();
        let counts = Counts { is_acknowledged: true, from, until_ns: 1, acknowledged_until: 0 };
        let summary = Summary::new("run", 1, &counters, counts);
        assert_eq!(summary.connecting_seconds, 1.5);
        let told = summary.latency_ms.expect("there are latencies");
        let expected = [(told.p50, 5.0), (told.p90, 9.0), (told.p95, 9.5), (told.p99, 9.9), (told.p999, 9.99)];
        for (told, expected) in expected {
            // The histogram is exact to 1 %, upwards.
            assert!((expected..=expected * 1.01).contains(&told), "{told} for {expected}");
        }
        assert_eq!(told.max, 10.0);
    }
}
