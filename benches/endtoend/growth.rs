//! How the cost of a message and the time until its acknowledgement change as one quantity grows.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::load::{Load, Transport};
use crate::measurement::{Figures, Half, Latency, measure};
use crate::peer::{Peer, Queues};
use crate::plot::{Panel, Plot};
use crate::table::{Spread, cell};

/// The quantity that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Connections,
    Replicas,
    Registry,
    Products,
    Workers,
}

/// A quantity and its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Growth {
    quantity: Quantity,
    values: Vec<u32>,
}

impl FromStr for Growth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = text.split_once(':').map_or((text, None), |(name, values)| (name, Some(values)));
        let (quantity, usual): (Quantity, &[u32]) = match name {
            "connections" => (Quantity::Connections, &[100, 300, 1_000, 3_000, 7_000, 15_000]),
            "replicas" => (Quantity::Replicas, &[1, 2, 3, 4]),
            "registry" => (Quantity::Registry, &[100, 1_000, 10_000, 100_000]),
            "products" => (Quantity::Products, &[1, 10, 100, 1_000]),
            "workers" => (Quantity::Workers, &[1, 2]),
            _ => return Err("expected connections, replicas, registry, products or workers".to_owned()),
        };
        let Some(values) = values else { return Ok(Self { quantity, values: usual.to_vec() }) };
        let values: Result<Vec<u32>, _> = values.split(':').map(str::parse).collect();
        match values {
            Ok(values) if values.is_sorted() && values.first().is_some_and(|&least| least > 0) => {
                Ok(Self { quantity, values })
            }
            _ => Err("expected ascending numbers above 0, such as connections:100:1000".to_owned()),
        }
    }
}

impl Growth {
    /// Its name in files.
    pub(crate) fn name(&self) -> &'static str {
        match self.quantity {
            Quantity::Connections => "connections",
            Quantity::Replicas => "replicas",
            Quantity::Registry => "registry",
            Quantity::Products => "products",
            Quantity::Workers => "workers",
        }
    }

    fn label(&self) -> &'static str {
        match self.quantity {
            Quantity::Connections => "connections, 1 unacknowledged message each",
            Quantity::Replicas => "replicas, 1,000 connections divided among them, 1 unacknowledged message each",
            Quantity::Registry => "devices in the registry, 100 of them connected, 1 unacknowledged message each",
            Quantity::Products => "products, 1,000 connections divided among them, 1 unacknowledged message each",
            Quantity::Workers => "workers, 1,000 connections, 1 unacknowledged message each",
        }
    }

    /// What is measured for a value.
    fn setting(&self, value: u32) -> (Load, Deployment) {
        let load = |devices, window| Load { transport: Transport::Mqtt, devices, window };
        let usual = Deployment::default();
        match self.quantity {
            Quantity::Connections => (load(value, 1), usual),
            Quantity::Replicas => (load(1_000.max(value), 1), Deployment { replicas: value, ..usual }),
            Quantity::Registry => (load(100, 1), Deployment { registered: value, ..usual }),
            Quantity::Products => (load(1_000.max(value), 1), Deployment { products: value, ..usual }),
            Quantity::Workers => (load(1_000, 1), Deployment { workers: value, ..usual }),
        }
    }

    /// Measures every value, in rounds; every other round begins with the greatest. `tell` gets a line for each.
    pub(crate) fn measure(&self, peer: Peer, rounds: u32, seconds: u64, tell: &mut dyn FnMut(String)) -> Curve {
        let mut queues = Queues::default();
        let mut curve = Curve { growth: self.clone(), peer, rounds: Vec::new() };
        for round in 0..rounds {
            queues.renew();
            let mut values = self.values.clone();
            if !round.is_multiple_of(2) {
                values.reverse();
            }
            let mut figures = BTreeMap::new();
            for value in values {
                let (load, deployment) = self.setting(value);
                let measured = measure(peer, load, deployment, seconds, true, &mut queues);
                let text = measured.as_ref().map_or_else(|error| format!("FAILED: {error}"), ToString::to_string);
                tell(format!("round {}, {value} {}: {text}", round + 1, self.name()));
                figures.extend(measured.ok().map(|figures| (value, figures)));
            }
            curve.rounds.push(figures);
        }
        curve
    }
}

/// What was measured of a growth: figures by value, of each round.
pub(crate) struct Curve {
    growth: Growth,
    peer: Peer,
    rounds: Vec<BTreeMap<u32, Figures>>,
}

impl Curve {
    /// Whether every measurement succeeded.
    pub(crate) fn is_complete(&self) -> bool {
        self.rounds.iter().all(|figures| figures.len() == self.growth.values.len())
    }

    /// Name of the file of its plot.
    pub(crate) fn file_name(&self) -> String {
        format!("growth-{}-{}.svg", self.peer.short_name(), self.growth.name())
    }

    /// The spread of a quantity over the rounds.
    fn spread(&self, value: u32, of: impl Fn(&Figures) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(|figures| of(figures.get(&value)?)))
    }

    /// The spread of a quantity in relation to that of the least value in the same round.
    fn growth(&self, value: u32, of: impl Fn(&Figures) -> Option<f64>) -> Option<Spread> {
        let first = self.growth.values.first()?;
        let ratio = |figures: &BTreeMap<u32, Figures>| Some(of(figures.get(&value)?)? / of(figures.get(first)?)?);
        Spread::of(self.rounds.iter().filter_map(ratio))
    }

    /// The table in Markdown: medians over rounds; of growth, which is that to the first row of the same round, the
    /// least and the greatest, too.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{}: {}\n\n| {} | us | growth | thousand/s | us at half load | growth | p50 ms | p95 ms | p99 ms | p99.9 ms | max ms |\n|{}\n",
            self.peer,
            self.growth.label(),
            self.growth.name(),
            "---|".repeat(11)
        );
        for &value in &self.growth.values {
            let growth = |of: Of| self.growth(value, of).map_or_else(|| "-".to_owned(), |spread| spread.to_string());
            let median = |of: Of, digits| cell(self.spread(value, of).map(|spread| spread.median), digits);
            let latency = LINES.map(|(_, of)| {
                cell(self.spread(value, |figures| Some(of(&figures.half?.latency))).map(|spread| spread.median), 2)
            });
            // Writing to a text does not fail.
            let _ = writeln!(
                text,
                "| {value} | {} | {} | {} | {} | {} | {} | {} |",
                median(server_us, 2),
                growth(server_us),
                median(|figures| Some(figures.rate / 1e3), 1),
                median(half_us, 2),
                growth(half_us),
                latency.join(" | "),
                cell(self.spread(value, |figures| Some(figures.half?.latency.max)).map(|spread| spread.median), 1)
            );
        }
        text
    }

    /// The plot: cost of a message above, time until its acknowledgement below.
    pub(crate) fn plot(&self) -> String {
        let line = |of: &dyn Fn(&Figures) -> Option<f64>| {
            self.growth.values.iter().map(|&value| self.spread(value, of)).collect::<Vec<_>>()
        };
        let costs = vec![("saturated", line(&server_us)), ("half load", line(&half_us))];
        let times = LINES.map(|(name, of)| (name, line(&|figures| Some(of(&figures.half?.latency)))));
        Plot {
            title: &format!("{}: growth of {}", self.peer, self.growth.name()),
            label: self.growth.label(),
            values: &self.growth.values,
            panels: vec![
                Panel { title: "processor time of the bridge, us a message", lines: costs, from_zero: true },
                Panel { title: "time until PUBACK at half load, ms", lines: times.into(), from_zero: false },
            ],
        }
        .draw()
    }

    /// The figures of every round.
    pub(crate) fn json(&self) -> Value {
        let rounds = self.rounds.iter().map(|figures| {
            let points = figures.iter().map(|(value, figures)| json!({ "value": value, "figures": figures }));
            points.collect::<Vec<_>>()
        });
        json!({
            "quantity": self.growth.name(),
            "setting": self.growth.label(),
            "server": self.peer.to_string(),
            "rounds": rounds.collect::<Vec<_>>(),
        })
    }
}

/// A quantity of the figures, where they have it.
type Of = fn(&Figures) -> Option<f64>;

/// A percentile of latencies.
type Percentile = fn(&Latency) -> f64;

/// Percentiles of a plot.
const LINES: [(&str, Percentile); 4] = [
    ("p50", |latency| latency.p50),
    ("p95", |latency| latency.p95),
    ("p99", |latency| latency.p99),
    ("p99.9", |latency| latency.p999),
];

fn server_us(figures: &Figures) -> Option<f64> {
    Some(figures.server_us)
}

fn half_us(figures: &Figures) -> Option<f64> {
    figures.half.map(|Half { server_us, .. }| server_us)
}
