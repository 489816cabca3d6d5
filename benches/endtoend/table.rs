//! The result.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::load::Load;
use crate::measurement::Figures;
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
             traced, or is of another build; else to Mosquitto of the same round; medians over rounds.\n\n"
                .to_owned();
        text.push_str(
            "| devices x window | server | us | ratio | thousand/s | p50 ms | p99 ms | queue us | rounds |\n",
        );
        text.push_str("|---|---|---|---|---|---|---|---|---|\n");
        for &load in loads {
            for &peer in peers.iter().filter(|peer| peer.takes(load)) {
                let of_peer = self.rounds(load, peer);
                let median_of = |value: fn(&Figures) -> f64| median(of_peer.iter().map(|(_, figures)| value(figures)));
                let ratios = of_peer.iter().filter_map(|(round, figures)| {
                    let reference = self.references.get(&(load, peer, *round));
                    let other = reference.or_else(|| self.figures.get(&(load, Peer::Mosquitto, *round)))?;
                    Some(figures.server_us / other.server_us)
                });
                let ratio = median(ratios);
                let cells = [
                    cell(median_of(|figures| figures.server_us), 2),
                    cell(ratio, 3),
                    cell(median_of(|figures| figures.rate / 1e3), 1),
                    cell(median_of(|figures| figures.p50_ms), 1),
                    cell(median_of(|figures| figures.p99_ms), 1),
                    cell(median_of(|figures| figures.queue_us).filter(|us| *us > 0.0), 1),
                ];
                // Writing to a text does not fail.
                let _ = writeln!(text, "| {load} | {peer} | {} | {} |", cells.join(" | "), of_peer.len());
            }
        }
        text
    }

    fn rounds(&self, load: Load, peer: Peer) -> Vec<(u32, Figures)> {
        let of_peer = self.figures.iter().filter(|((its_load, its_peer, _), _)| *its_load == load && *its_peer == peer);
        of_peer.map(|((.., round), figures)| (*round, *figures)).collect()
    }
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    Some(if values.len().is_multiple_of(2) { (values[middle - 1] + upper) / 2.0 } else { *upper })
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}
