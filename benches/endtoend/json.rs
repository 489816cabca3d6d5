//! The result for programs.

use std::process::Command;

use serde_json::{Value, json};

use crate::growth::Curve;
use crate::machine::Machine;
use crate::options::Options;
use crate::peer::{Peer, first_line};
use crate::table::Table;

/// Everything that was measured, and where.
pub(crate) struct Results<'a> {
    /// What was asked for.
    pub(crate) options: &'a Options,
    /// The machine.
    pub(crate) machine: Machine,
    /// Servers and their versions.
    pub(crate) versions: Vec<(String, String)>,
    /// The servers, in the order of a round.
    pub(crate) peers: &'a [Peer],
    /// The figures.
    pub(crate) table: &'a Table,
    /// What was measured of growths.
    pub(crate) curves: &'a [Curve],
}

impl Results<'_> {
    /// The result as JSON: us, ms and messages a second, of every round, and the ratio over all rounds.
    pub(crate) fn render(&self) -> String {
        let mut rows = Vec::new();
        for &load in &self.options.loads {
            for &peer in self.peers.iter().filter(|peer| peer.takes(load)) {
                let rounds = (0..self.options.rounds).filter_map(|round| {
                    let (figures, beside) = self.table.round(load, peer, round)?;
                    Some(json!({ "round": round + 1, "figures": figures, "beside": beside }))
                });
                rows.push(json!({
                    "load": load.to_string(),
                    "server": peer.to_string(),
                    "ratio": self.table.ratio(load, peer),
                    "rounds": rounds.collect::<Vec<Value>>(),
                }));
            }
        }
        let versions: serde_json::Map<String, Value> =
            self.versions.iter().map(|(peer, version)| (peer.clone(), Value::from(version.as_str()))).collect();
        let result = json!({
            "commit": commit(),
            "rustc": first_line(Command::new("rustc").arg("--version")),
            "machine": self.machine,
            "versions": versions,
            "rounds": self.options.rounds,
            "seconds": self.options.seconds,
            "beside": self.options.beside,
            "rows": rows,
            "curves": self.curves.iter().map(Curve::json).collect::<Vec<_>>(),
        });
        format!("{result:#}\n")
    }
}

/// The commit of the sources, with `+` behind it where they differ from it; `None` outside a repository.
fn commit() -> Option<String> {
    let root = env!("CARGO_MANIFEST_DIR");
    let git = |arguments: &[&str]| first_line(Command::new("git").args(["-C", root]).args(arguments));
    let commit = git(&["rev-parse", "--verify", "--quiet", "HEAD"])?;
    let is_changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some();
    Some(if is_changed { commit + "+" } else { commit })
}
