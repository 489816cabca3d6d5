//! Finds keys that nobody reads, and what their writer may have meant.

use std::collections::BTreeSet;

use strsim::levenshtein;

use super::mistake::{Mistake, Problem};
use super::node::{Node, Table};

/// Adds one mistake for each key, or for each section as a whole, that is in the tree and not among `known`. Below a
/// name in `open` everything is known.
pub(super) fn find_unknown(
    tree: &Table,
    known: &BTreeSet<String>,
    open: &BTreeSet<String>,
    mistakes: &mut Vec<Mistake>,
) {
    walk(tree, "", known, open, mistakes);
}

fn walk(table: &Table, prefix: &str, known: &BTreeSet<String>, open: &BTreeSet<String>, mistakes: &mut Vec<Mistake>) {
    for (name, node) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        let is_section = known.iter().any(|other| is_below(other, &key));
        let problem = match node {
            Node::Table(_) if open.contains(&key) => continue,
            Node::Table(inner) if is_section => {
                walk(inner, &key, known, open, mistakes);
                continue;
            }
            // A table in the place of a key was reported when the key was read.
            Node::Table(_) | Node::Leaf(_) if known.contains(&key) && !open.contains(&key) => continue,
            Node::Leaf(_) if is_section || open.contains(&key) => {
                Problem::Wrong { given: "a value".to_owned(), expected: "a section".to_owned() }
            }
            Node::Leaf(_) => Problem::Unknown { suggestion: suggest(&key, known.iter().map(String::as_str)) },
            Node::Table(_) => {
                let sections: BTreeSet<&str> =
                    known.iter().filter_map(|other| other.rsplit_once('.')).map(|(section, _)| section).collect();
                Problem::Unknown { suggestion: suggest(&key, sections.into_iter()) }
            }
        };
        mistakes.push(Mistake { key, problem, origin: node.origin().cloned() });
    }
}

fn is_below(name: &str, section: &str) -> bool {
    name.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

/// The name nearest to `key`: of the same last part if only one has it, else with few letters changed.
fn suggest<'k>(key: &str, names: impl Iterator<Item = &'k str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    let last = |name: &str| plain(name.rsplit('.').next().unwrap_or(name));
    let same_section = |name: &&str| name.rsplit_once('.').map(|(s, _)| s) == key.rsplit_once('.').map(|(s, _)| s);
    let within = |most: usize, name: &&str| levenshtein(&plain(key), &plain(name)) <= most;
    let nearest = |names: &[&str]| {
        names.iter().min_by_key(|name| levenshtein(&plain(key), &plain(name))).map(|name| (*name).to_owned())
    };
    let siblings: Vec<&str> = names.iter().copied().filter(same_section).filter(|name| within(2, name)).collect();
    if !siblings.is_empty() {
        return nearest(&siblings);
    }
    let namesakes: Vec<&str> = names.iter().copied().filter(|name| last(name) == last(key)).collect();
    if let [name] = namesakes[..] {
        return Some(name.to_owned());
    }
    // With every letter changed anything short would do.
    let most = plain(key).chars().count().saturating_sub(1).min(3);
    let near: Vec<&str> = names.iter().copied().filter(|name| within(most, name)).collect();
    nearest(&near)
}

/// Lower case, without what people write differently.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["mqtt.listen", "mqtt.connect_timeout", "limits.packet_bytes", "coap.listen"];

    #[test]
    fn a_suggestion_is_the_key_that_was_meant() {
        for (given, meant) in [
            ("mqtt.lisen", Some("mqtt.listen")),
            ("mqtt.connectTimeout", Some("mqtt.connect_timeout")),
            ("mqtt.connect-timeout", Some("mqtt.connect_timeout")),
            ("mqtt.packet_bytes", Some("limits.packet_bytes")),
            ("mqqt.listen", Some("mqtt.listen")),
            ("other.thing", None),
            ("a", None),
        ] {
            assert_eq!(suggest(given, NAMES.into_iter()).as_deref(), meant, "{given}");
        }
    }
}
