//! Files, environment and `--set`, merged by Figment: a later source wins, key by key.
//!
//! Figment keeps metadata for each provider. So every key of a source is a provider, whose metadata names the line, the
//! variable or the argument that sets it.

use std::collections::BTreeMap;
use std::fs;
use std::mem;
use std::path::PathBuf;

use figment::providers::Serialized;
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider, Source};
use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::mistake::{Mistake, Mistakes, Problem};
use super::reader::Reader;
use super::section::Section as _;
use super::{Config, Loaded, unknown};

/// Prefix of the bridge's environment variables; section and key follow, with `__` between.
pub const ENVIRONMENT_PREFIX: &str = "JETLINKS_BRIDGE__";

/// The configuration for development; it counts when neither a file nor a variable configures anything.
pub const BUILT_IN: &str = include_str!("../../config/dev.toml");

/// Everything that configures the bridge; the later fields win.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// Files; keys of a later one replace those of an earlier one.
    pub files: Vec<PathBuf>,
    /// Environment variables, those of other programs included; they replace keys of files.
    pub environment: BTreeMap<String, String>,
    /// Texts `section.key=value`; they replace everything, a later one an earlier one.
    pub settings: Vec<String>,
}

/// Reads and checks the whole configuration; opens the files of secrets, and nothing else.
///
/// # Errors
/// All mistakes of all sources at once. Of a file that is not TOML the keys before its first error count. Where a file could not
/// be read to its end, nothing is said of keys that no source sets.
pub fn load(sources: &Sources) -> Result<Loaded, Mistakes> {
    let (loaded, mistakes) = examine(sources);
    if mistakes.is_empty() { Ok(loaded) } else { Err(Mistakes(mistakes)) }
}

/// As [`load`], for a check that goes on behind a mistake: a key with one counts as not set.
pub fn examine(sources: &Sources) -> (Loaded, Vec<Mistake>) {
    let variables: Vec<_> =
        sources.environment.iter().filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX)).collect();
    let built_in = sources.files.is_empty() && variables.is_empty();
    let mut layers = Layers::default();
    if built_in {
        layers.add_toml(BUILT_IN, &BUILT_IN_SOURCE.into(), |_| BUILT_IN_SOURCE.to_owned());
    }
    for path in &sources.files {
        let name = path.display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => {
                layers.add_toml(&text, &path.as_path().into(), |offset| format!("{name}:{}", line(&text, offset)))
            }
            Err(error) => layers.refuse(name, format!("cannot be read: {error}")),
        }
    }
    let is_complete = layers.mistakes.is_empty();
    for (name, value) in &variables {
        layers.add_variable(name, value);
    }
    for text in &sources.settings {
        layers.add_setting(text);
    }

    let tree = layers.figment.find_value("").unwrap_or_else(|_| Dict::new().into());
    let mut reader = Reader::new(&layers.figment, &tree);
    let config = Config::read(&mut reader, "");
    for name in sources.environment.keys().filter(|name| !name.starts_with(ENVIRONMENT_PREFIX)) {
        if let Some(meant) = unknown::meant_variable(name, reader.known()) {
            reader.warn(name, format!("an environment variable that counts for nothing, did you mean {meant}?"));
        }
    }
    let (mut mistakes, warnings, resolved) = reader.finish();
    mistakes.retain(|mistake| is_complete || mistake.origin.is_some());
    if let Some((variable, _)) = variables.first().filter(|_| sources.files.is_empty()) {
        let missing = mistakes.iter_mut().find_map(|mistake| match &mut mistake.problem {
            Problem::Missing { needed } => Some(needed),
            _ => None,
        });
        if let Some(needed) = missing {
            needed.push_str(&format!(
                "; {BUILT_IN_SOURCE} counts only where no variable configures the bridge, and {variable} is set: \
                 name it as a file, --config config/dev.toml"
            ));
        }
    }
    layers.mistakes.extend(mistakes);
    (Loaded { config, warnings, resolved, built_in }, layers.mistakes)
}

/// Name of the built-in configuration in messages and metadata.
pub(super) const BUILT_IN_SOURCE: &str = "the built-in configuration for development";

/// One key of one source.
struct Entry<'a> {
    key: &'a str,
    value: Value,
    metadata: Metadata,
}

impl Provider for Entry<'_> {
    fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Serialized::default(self.key, &self.value).data()
    }
}

/// The sources read so far.
#[derive(Default)]
struct Layers {
    figment: Figment,
    mistakes: Vec<Mistake>,
}

impl Layers {
    /// Adds the keys of a TOML text. `origin` names an offset in it.
    fn add_toml(&mut self, text: &str, source: &Source, origin: impl Fn(usize) -> String) {
        let (parsed, errors) = DeTable::parse_recoverable(text);
        // Behind an error a key may seem to be in another section, so the line of the first one is the end.
        let first = errors.iter().map(|error| error.span().map_or(0, |span| span.start)).min();
        let line_before = |offset| text.get(..offset).and_then(|before: &str| before.rfind('\n')).unwrap_or_default();
        let end = first.map_or(usize::MAX, line_before);
        for error in errors {
            // The parser's own rendering quotes the line, which may hold a secret.
            let at = origin(error.span().unwrap_or_default().start);
            self.refuse(at, format!("not valid TOML: {}", error.message().trim()));
        }
        self.add_table("", parsed.into_inner(), end, source, &origin);
    }

    /// Adds the keys of a table that stand before `end`. A quoted name with dots in it is the same as nested tables, so that
    /// `"sasl.password"` in one file and `sasl.password` in another are one key.
    fn add_table(
        &mut self,
        section: &str,
        table: DeTable<'_>,
        end: usize,
        source: &Source,
        origin: &dyn Fn(usize) -> String,
    ) {
        for (name, value) in table {
            let (key, origin_of_key) = (format!("{section}{}", name.get_ref()), origin(name.span().start));
            if let DeValue::Table(inner) = value.get_ref() {
                self.add_table(&format!("{key}."), inner.clone(), end, source, origin);
                continue;
            }
            if value.span().end > end {
                continue;
            }
            let read: Result<Value, _> = match value.get_ref() {
                DeValue::Datetime(date) => Ok(Value::from(date.to_string())),
                _ => Deserialize::deserialize(ValueDeserializer::from(value)),
            };
            match read {
                Ok(value) if is_name(&key) => self.add(&key, value, origin_of_key, source),
                Ok(_) => self.mistakes.push(Mistake {
                    key,
                    problem: Problem::Unknown { suggestion: None, section: Vec::new() },
                    origin: Some(origin_of_key),
                }),
                Err(error) => self.refuse(origin_of_key, format!("not valid TOML: {}", error.message())),
            }
        }
    }

    fn add_variable(&mut self, name: &str, value: &str) {
        let key = name[ENVIRONMENT_PREFIX.len()..].to_ascii_lowercase().replace("__", ".");
        if key.contains('.') && is_name(&key) {
            self.add(&key, Value::from(value), name.to_owned(), &Source::from("environment"));
        } else {
            self.refuse(name.to_owned(), format!("not the name of a key, which is {ENVIRONMENT_PREFIX}SECTION__KEY"));
        }
    }

    fn add_setting(&mut self, text: &str) {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        let key = key.trim();
        if text.contains('=') && key.contains('.') && is_name(key) {
            self.add(key, Value::from(unquote(value.trim())), format!("--set {key}"), &Source::from("--set"));
        } else {
            self.refuse("--set".to_owned(), format!("{key:?} given, expected section.key=value"));
        }
    }

    fn add(&mut self, key: &str, value: Value, origin: String, source: &Source) {
        // `nats.stream` is the name of the stream and the section of its settings at once.
        let key = if key == "nats.stream" { "nats.stream.name" } else { key };
        let metadata = Metadata::from(origin, source.clone());
        self.figment = mem::take(&mut self.figment).merge(Entry { key, value, metadata });
    }

    /// Adds the mistake that a source, or a part of it, cannot be used.
    fn refuse(&mut self, source: String, reason: String) {
        self.mistakes.push(Mistake { key: source, problem: Problem::Invalid { reason }, origin: None });
    }
}

/// Whether a text is names with dots between.
fn is_name(key: &str) -> bool {
    !key.split('.').any(str::is_empty)
}

/// The number of the line, from 1, that holds the byte at `offset`.
fn line(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
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
