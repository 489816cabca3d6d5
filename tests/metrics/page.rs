//! The documented metrics, and those of the page.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Bridge, http, settings};

/// Metrics that `docs/metrics.md` lists.
pub(crate) struct Documented {
    /// Kind and labels of each metric.
    pub(crate) families: BTreeMap<String, (String, BTreeSet<String>)>,
    /// Values of each label of each metric.
    pub(crate) values: BTreeMap<(String, String), BTreeSet<String>>,
}

const PREFIX: &str = "jetlinks_bridge_";

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

impl Documented {
    /// Reads both tables.
    pub(crate) fn read() -> Self {
        let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).unwrap();
        let (mut families, mut values) = (BTreeMap::new(), BTreeMap::new());
        for line in text.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            match cells[..] {
                [name, kind @ ("counter" | "gauge" | "histogram"), labels, _] => {
                    families.insert(quoted(name)[0].clone(), (kind.to_owned(), quoted(labels).into_iter().collect()));
                }
                [names, label, listed] if label.starts_with('`') => {
                    let listed = without_parentheses(listed);
                    let listed: BTreeSet<String> = listed.split([',', ';']).map(|it| it.trim().to_owned()).collect();
                    for name in quoted(names) {
                        values.insert((format!("{PREFIX}{name}"), quoted(label)[0].clone()), listed.clone());
                    }
                }
                _ => {}
            }
        }
        // The labels whose values nobody can list.
        let version = BTreeSet::from([env!("CARGO_PKG_VERSION").to_owned()]);
        values.insert((format!("{PREFIX}build_info"), "version".to_owned()), version);
        for ((_, label), values) in &mut values {
            if label == "worker" {
                *values = (0..settings::workers()).map(|number| number.to_string()).collect();
            }
        }
        Self { families, values }
    }
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    let outside = |&c: &char| {
        depth += u32::from(c == '(');
        let is_outside = depth == 0;
        depth -= u32::from(c == ')');
        is_outside
    };
    text.chars().filter(outside).collect()
}

/// A metric or one value of one of its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Thing {
    /// The metric.
    pub(crate) name: String,
    /// Name and value of a label.
    pub(crate) label: Option<(String, String)>,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.strip_prefix(PREFIX).unwrap_or(&self.name);
        match &self.label {
            Some((label, value)) => write!(f, "{name} {label}={value}"),
            None => f.write_str(name),
        }
    }
}

/// All pages that were read, united.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Series that were above 0 at some time.
    pub(crate) counted: BTreeSet<Thing>,
    /// Everything there was, with its labels.
    pub(crate) series: BTreeMap<String, BTreeSet<(String, String)>>,
    /// Label names of every sample.
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
}

impl Seen {
    /// Reads a bridge's page.
    pub(crate) fn scrape(&mut self, bridge: &Bridge) {
        let page = http::get(bridge.admin(), "/metrics").expect("the admin page answers").body;
        let histograms: BTreeSet<&str> =
            page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")).collect();
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value: f64 = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let name = base.filter(|base| histograms.contains(base)).unwrap_or(name);
            let labels: BTreeSet<(String, String)> = labels
                .trim_end_matches('}')
                .split(',')
                .filter_map(|pair| pair.split_once('='))
                .map(|(label, value)| (label.to_owned(), value.trim_matches('"').to_owned()))
                .filter(|(label, _)| label != "le")
                .collect();
            self.labels.entry(name.to_owned()).or_default().extend(labels.iter().map(|(label, _)| label.clone()));
            self.series.entry(name.to_owned()).or_default().extend(labels.iter().cloned());
            if value > 0.0 {
                self.counted.insert(Thing { name: name.to_owned(), label: None });
                let named = |label| Thing { name: name.to_owned(), label: Some(label) };
                self.counted.extend(labels.into_iter().map(named));
            }
        }
    }

    /// Takes in what another has seen.
    pub(crate) fn unite(&mut self, other: Seen) {
        self.counted.extend(other.counted);
        for (name, labels) in other.labels {
            self.labels.entry(name).or_default().extend(labels);
        }
        for (name, labels) in other.series {
            self.series.entry(name).or_default().extend(labels);
        }
    }
}
