//! The result.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::load::Load;
use crate::measurement::{Figures, Half};
use crate::peer::Peer;

/// Figures of every round.
#[derive(Debug, Default)]
pub(crate) struct Table {
    figures: HashMap<(Load, Peer, u32), Figures>,
    /// Processor time of the reference beside a peer: the bare one, or the one of another build.
    references: HashMap<(Load, Peer, u32), Figures>,
}

impl Table {
    /// Adds the figures of one measurement, and those of the reference beside it.
    pub(crate) fn add(&mut self, load: Load, peer: Peer, round: u32, figures: Figures, reference: Option<Figures>) {
        self.figures.insert((load, peer, round), figures);
        if let Some(reference) = reference {
            self.references.insert((load, peer, round), reference);
        }
    }

    /// Whether every measurement succeeded.
    pub(crate) fn is_complete(&self, loads: &[Load], peers: &[Peer], rounds: u32) -> bool {
        let rows = loads.iter().flat_map(|load| peers.iter().filter(|peer| peer.takes(*load))).count();
        self.figures.len() == rows * rounds as usize
    }

    /// The table in Markdown: medians over rounds, and the ratio to Mosquitto of the same round, or to the
    /// reference beside it.
    pub(crate) fn render(&self, loads: &[Load], peers: &[Peer]) -> String {
        let mut text =
            "Processor time of the server per acknowledged message; ratio to the same beside it that is not scraped or \
             traced, or is of another build; else to Mosquitto of the same round; medians over rounds, of the ratio the \
             least and the greatest, too.\n\n"
                .to_owned();
        let has_half = self.figures.values().any(|figures| figures.half.is_some());
        let half = if has_half { " us at half load | p50 / p95 / p99 / p99.9 / max ms |" } else { "" };
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "| devices x window | server | us | ratio | thousand/s | p50 ms | p99 ms |{half} queue us | rounds |"
        );
        let _ = writeln!(text, "|{}", "---|".repeat(if has_half { 11 } else { 9 }));
        for &load in loads {
            for &peer in peers.iter().filter(|peer| peer.takes(load)) {
                let of_peer = self.rounds(load, peer);
                let median_of = |value: fn(&Figures) -> f64| median(of_peer.iter().map(|(_, figures)| value(figures)));
                let mut cells = vec![
                    cell(median_of(|figures| figures.server_us), 2),
                    self.ratio(load, peer).map_or_else(|| "-".to_owned(), |spread| spread.to_string()),
                    cell(median_of(|figures| figures.rate / 1e3), 1),
                    cell(median_of(|figures| figures.latency.p50), 1),
                    cell(median_of(|figures| figures.latency.p99), 1),
                ];
                if has_half {
                    let at_half = |value: fn(&Half) -> f64| {
                        cell(median(of_peer.iter().filter_map(|(_, figures)| figures.half.as_ref().map(value))), 2)
                    };
                    let parts: [fn(&Half) -> f64; 5] = [
                        |half| half.latency.p50,
                        |half| half.latency.p95,
                        |half| half.latency.p99,
                        |half| half.latency.p999,
                        |half| half.latency.max,
                    ];
                    cells.push(at_half(|half| half.server_us));
                    cells.push(parts.map(at_half).join(" / "));
                }
                cells.push(cell(median_of(|figures| figures.queue_us).filter(|us| *us > 0.0), 1));
                let _ = writeln!(text, "| {load} | {peer} | {} | {} |", cells.join(" | "), of_peer.len());
            }
        }
        text
    }

    /// Ratio of a peer's processor time to that of its reference in the same round: the one beside it, else Mosquitto.
    /// `None`: it has no reference.
    pub(crate) fn ratio(&self, load: Load, peer: Peer) -> Option<Spread> {
        let rounds = self.rounds(load, peer).into_iter();
        Spread::of(rounds.filter_map(|(round, figures)| {
            let reference = self.references.get(&(load, peer, round));
            let other = reference.or_else(|| self.figures.get(&(load, Peer::Mosquitto, round)))?;
            Some(figures.server_us / other.server_us)
        }))
    }

    /// Figures of a round, and those of the reference beside it.
    pub(crate) fn round(&self, load: Load, peer: Peer, round: u32) -> Option<(Figures, Option<Figures>)> {
        let key = (load, peer, round);
        Some((*self.figures.get(&key)?, self.references.get(&key).copied()))
    }

    fn rounds(&self, load: Load, peer: Peer) -> Vec<(u32, Figures)> {
        let of_peer = self.figures.iter().filter(|((its_load, its_peer, _), _)| *its_load == load && *its_peer == peer);
        of_peer.map(|((.., round), figures)| (*round, *figures)).collect()
    }
}

/// Median, least and greatest of a value over rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of no values.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let values: Vec<f64> = values.collect();
        let (min, max) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        Some(Self { median: median(values.into_iter())?, min, max })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max } = self;
        write!(f, "{median:.3} ({min:.3} to {max:.3})")
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { (values[middle - 1] + upper) / 2.0 } else { *upper })
}

/// A number for people, `-` where there is none.
pub(crate) fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}
