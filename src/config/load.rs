//! Files, environment and `--set`, merged: later wins.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Mistakes, Origin, Problem};
use super::node::{self, Setting, Table, Value};
use super::reader::Reader;
use super::{Config, Loaded};

/// What every environment variable of the bridge begins with; section and key follow, with `__` between.
pub const ENVIRONMENT_PREFIX: &str = "JETLINKS_BRIDGE__";

/// The configuration for development; it counts when neither a file nor a variable configures anything.
pub const BUILT_IN: &str = include_str!("../../config/dev.toml");

/// Everything that configures the bridge, in the order of its weight.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Files; keys of a later one replace those of an earlier one.
    pub files: Vec<PathBuf>,
    /// Environment variables, those of others included; they replace keys of files.
    pub environment: BTreeMap<String, String>,
    /// Texts `section.key=value`; they replace everything, the later the earlier.
    pub settings: Vec<String>,
}

/// Reads and checks the whole configuration; opens the files of secrets, and nothing else.
///
/// # Errors
/// All mistakes at once. Files that cannot be read, or are no TOML, are reported without looking into the rest.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let mut mistakes = Vec::new();
    let mut tree = Table::new();
    let mut layer = 0;

    let variables: Vec<_> =
        sources.environment.iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    let built_in = sources.files.is_empty() && variables.is_empty();
    if built_in {
        add_toml(&mut tree, BUILT_IN, layer, &Origin::BuiltIn, &mut mistakes);
    }
    for path in &sources.files {
        layer += 1;
        let origin = Origin::File(path.clone(), None);
        match fs::read_to_string(path) {
            Ok(text) => add_toml(&mut tree, &text, layer, &origin, &mut mistakes),
            Err(error) => mistakes.push(Mistake {
                key: path.display().to_string(),
                problem: Problem::Source { reason: format!("cannot be read: {error}") },
                origin: None,
            }),
        }
    }
    let unreadable = !mistakes.is_empty();
    layer += 1;
    for (name, value) in variables {
        add_variable(&mut tree, name, value, layer, &mut mistakes);
    }
    layer += 1;
    for text in &sources.settings {
        add_setting(&mut tree, text, layer, &mut mistakes);
    }
    if unreadable {
        return Err(Mistakes(mistakes));
    }

    let mut reader = Reader::new(&tree);
    let config = Config::read(&mut reader);
    super::cross::check(&config, &mut reader);
    let (found, warnings, resolved) = reader.finish();
    mistakes.extend(found);
    if mistakes.is_empty() { Ok(Loaded { config, warnings, resolved, built_in }) } else { Err(Mistakes(mistakes)) }
}

fn add_toml(tree: &mut Table, text: &str, layer: usize, source: &Origin, mistakes: &mut Vec<Mistake>) {
    let place = |offset: usize| match source {
        Origin::File(path, _) => Origin::File(path.clone(), Some(line(text, offset))),
        other => other.clone(),
    };
    let (parsed, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        // The parser's own rendering quotes the line, which may hold a secret.
        let origin = error.span().map_or_else(|| source.clone(), |span| place(span.start));
        mistakes.push(Mistake {
            key: origin.to_string(),
            problem: Problem::Source { reason: format!("no TOML: {}", error.message().trim()) },
            origin: None,
        });
    }
    node::insert_toml(tree, parsed.get_ref(), layer, &place);
}

/// The number of the line, from 1, that holds the byte at `offset`.
fn line(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn add_variable(tree: &mut Table, name: &str, value: &str, layer: usize, mistakes: &mut Vec<Mistake>) {
    let key = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
    let origin = Origin::Environment(name.to_owned());
    if add(tree, &key, value.to_owned(), origin.clone(), layer).is_none() {
        mistakes.push(Mistake {
            key: name.to_owned(),
            problem: Problem::Wrong {
                given: "no name of a key".to_owned(),
                expected: format!("{ENVIRONMENT_PREFIX}SECTION__KEY"),
            },
            origin: None,
        });
    }
}

fn add_setting(tree: &mut Table, text: &str, layer: usize, mistakes: &mut Vec<Mistake>) {
    let added = text.split_once('=').and_then(|(key, value)| {
        let key = key.trim();
        add(tree, key, unquote(value.trim()), Origin::Set(key.to_owned()), layer)
    });
    if added.is_none() {
        mistakes.push(Mistake {
            key: "--set".to_owned(),
            problem: Problem::Wrong {
                given: format!("{:?}", text.split('=').next().unwrap_or_default()),
                expected: "section.key=value".to_owned(),
            },
            origin: None,
        });
    }
}

fn add(tree: &mut Table, key: &str, value: String, origin: Origin, layer: usize) -> Option<()> {
    let path: Vec<&str> = key.split('.').collect();
    if path.len() < 2 || path.contains(&"") {
        return None;
    }
    node::insert(tree, &path, Setting { value: Value::Raw(value), origin, layer });
    Some(())
}

/// Takes the quotes off a TOML text: a shell leaves them in `--set 'kafka.group="a"'`.
fn unquote(value: &str) -> String {
    if value.starts_with(['"', '\''])
        && let Ok(parsed) = DeValue::parse(value)
        && let DeValue::String(text) = parsed.get_ref()
    {
        return text.to_string();
    }
    value.to_owned()
}
