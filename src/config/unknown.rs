//! Keys that nobody reads, and the names that were probably meant.

use std::collections::BTreeSet;

use figment::value::Value;
use strsim::levenshtein;

use super::mistake::Problem;
use super::sources::ENVIRONMENT_PREFIX;

/// The keys, or sections as a whole, that are set and not among `known`. Below a name in `open` everything is known. A table in
/// the place of a known key is left to the reader of that key.
pub(super) fn find(tree: &Value, known: &BTreeSet<String>, open: &BTreeSet<String>) -> Vec<(String, Problem)> {
    let names: BTreeSet<&str> = known.union(open).map(String::as_str).collect();
    let mut found = Vec::new();
    walk(tree, "", &names, open, &mut found);
    found
}

fn walk(
    tree: &Value,
    section: &str,
    known: &BTreeSet<&str>,
    open: &BTreeSet<String>,
    found: &mut Vec<(String, Problem)>,
) {
    for (name, value) in tree.as_dict().into_iter().flatten() {
        let key = format!("{section}{name}");
        let below = format!("{key}.");
        let (is_open, is_table) = (open.contains(&key), value.as_dict().is_some());
        let is_section = is_open || known.iter().any(|name| name.starts_with(&below));
        if is_section && is_table {
            if !is_open {
                walk(value, &below, known, open, found);
            }
        } else if is_section {
            let (given, expected) = ("a value".to_owned(), "a section".to_owned());
            found.push((key, Problem::Wrong { given, expected }));
        } else if !known.contains(key.as_str()) {
            let sections = known.iter().filter_map(|name| Some(name.rsplit_once('.')?.0)).collect();
            let suggestion = suggest(&key, if is_table { &sections } else { known }).map(str::to_owned);
            let section = known.iter().filter_map(|name| name.strip_prefix(section)).filter(|_| !section.is_empty());
            let section = section.filter(|name| !name.contains('.')).map(str::to_owned).collect();
            found.push((key, Problem::Unknown { suggestion, section }));
        }
    }
}

/// The names of all keys below a section, nested names joined with dots.
pub(super) fn keys_below(section: &Value) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in section.as_dict().into_iter().flatten() {
        match value.as_dict() {
            Some(_) => keys.extend(keys_below(value).into_iter().map(|below| format!("{name}.{below}"))),
            None => keys.push(name.clone()),
        }
    }
    keys
}

/// The name nearest to `key`: best one of the same section, then the only one with the same last part, then any that differs
/// in few letters.
fn suggest<'k>(key: &str, names: &BTreeSet<&'k str>) -> Option<&'k str> {
    let section = |name: &str| name.rsplit_once('.').map(|(section, _)| section.to_owned());
    let last = |name: &str| plain(name.rsplit('.').next().unwrap_or(name));
    // With every letter changed anything short would do.
    let most = plain(key).chars().count().saturating_sub(1).min(3);
    let is_only_one = names.iter().filter(|name| last(name) == last(key)).count() == 1;
    let rank = |name: &str| {
        let distance = levenshtein(&plain(key), &plain(name));
        let rank = match distance {
            0..=2 if section(name) == section(key) => 0,
            _ if is_only_one && last(name) == last(key) => 1,
            _ if distance <= most => 2,
            _ => return None,
        };
        Some((rank, distance))
    };
    names.iter().filter_map(|name| Some((rank(name)?, *name))).min().map(|(_, name)| name)
}

/// The name of the variable that was probably meant by this one, which begins as those of the bridge do and is none. Other
/// programs have such names too: Kubernetes makes `JETLINKS_BRIDGE_PORT` for a Service of that name.
pub(super) fn meant_variable<'k>(name: &str, mut known: impl Iterator<Item = &'k str>) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let own = upper.strip_prefix(ENVIRONMENT_PREFIX.trim_end_matches('_'))?;
    let squeezed = |text: &str| text.replace(['_', '.'], "").to_ascii_uppercase();
    let meant = known.find(|key| own.starts_with('_') && squeezed(key) == squeezed(own));
    let is_in_small_letters = upper.starts_with(ENVIRONMENT_PREFIX);
    match meant {
        Some(key) => Some(format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())),
        None => is_in_small_letters.then_some(upper),
    }
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
    fn a_variable_that_is_none_and_was_meant_as_one_is_told_from_those_of_others() {
        for (given, meant) in [
            ("JETLINKS_BRIDGE_MQTT_LISTEN", Some("JETLINKS_BRIDGE__MQTT__LISTEN")),
            ("JETLINKS_BRIDGE_LIMITS__PACKET_BYTES", Some("JETLINKS_BRIDGE__LIMITS__PACKET_BYTES")),
            ("jetlinks_bridge__mqtt__listen", Some("JETLINKS_BRIDGE__MQTT__LISTEN")),
            ("Jetlinks_Bridge__other__thing", Some("JETLINKS_BRIDGE__OTHER__THING")),
            ("JETLINKS_BRIDGE_PORT", None),
            ("JETLINKS_BRIDGE_SERVICE_PORT_MQTT", None),
            ("JETLINKS_BRIDGEMQTTLISTEN", None),
            ("HOME", None),
        ] {
            assert_eq!(meant_variable(given, NAMES.into_iter()).as_deref(), meant, "{given}");
        }
    }

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
            assert_eq!(suggest(given, &BTreeSet::from(NAMES)), meant, "{given}");
        }
    }
}
