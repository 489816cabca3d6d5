//! One value of the merged sources, with its source.

use std::path::Path;

use figment::value::{Tag, Value};
use figment::{Figment, Metadata, Source};
use serde::Deserialize;
use toml::de::ValueDeserializer;

use super::resolved::quote;
use super::sources::BUILT_IN_SOURCE;
use super::url::hide_user;

/// A value that is not a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'t> {
    value: &'t Value,
    metadata: &'t Metadata,
}

impl<'t> Setting<'t> {
    /// The value at a dotted name of the merged sources. `None`: a table, or nothing.
    pub(super) fn find(figment: &'t Figment, tree: &'t Value, key: &str) -> Option<Self> {
        let value = tree.find_ref(key).filter(|value| value.as_dict().is_none())?;
        Some(Self { value, metadata: figment.get_metadata(value.tag())? })
    }

    /// File and line, variable or argument.
    pub(super) fn origin(&self) -> String {
        self.metadata.name.to_string()
    }

    /// A file, the environment, or all of `--set`.
    pub(super) fn source(&self) -> Option<&Source> {
        self.metadata.source.as_ref()
    }

    /// Tags of a later source are greater.
    pub(super) fn tag(&self) -> Tag {
        self.value.tag()
    }

    /// The directory that a path of this source is relative to.
    pub(super) fn folder(&self) -> &Path {
        match self.source() {
            Some(Source::File(file)) => file.parent().unwrap_or(Path::new("")),
            Some(Source::Custom(name)) if name == BUILT_IN_SOURCE => Path::new("config"),
            _ => Path::new(""),
        }
    }

    /// The text of the environment or `--set`, which know no types: the key decides.
    fn untyped(&self) -> Option<&'t str> {
        match self.source() {
            Some(Source::Custom(name)) if name != BUILT_IN_SOURCE => self.value.as_str(),
            _ => None,
        }
    }

    /// A text.
    pub(super) fn text(&self) -> Option<&'t str> {
        self.value.as_str()
    }

    /// Any text but "".
    pub(super) fn nonempty(&self) -> Option<&'t str> {
        self.text().filter(|text| !text.is_empty())
    }

    /// `true` or `false`.
    pub(super) fn flag(&self) -> Option<bool> {
        self.value.to_bool().or_else(|| self.untyped()?.trim().parse().ok())
    }

    /// A whole number that is not negative.
    pub(super) fn number(&self) -> Option<u64> {
        match self.untyped() {
            Some(text) => text.trim().replace('_', "").parse().ok(),
            None => u64::try_from(self.value.to_num()?.to_u128_lossy()?).ok(),
        }
    }

    /// A text, a number, `true` or `false`, as text.
    pub(super) fn scalar(&self) -> Option<String> {
        scalar(self.value)
    }

    /// Whether this is written as a list, rather than as one item.
    pub(super) fn is_list(&self) -> bool {
        self.value.as_array().is_some() || self.untyped().is_some_and(|text| text.trim_start().starts_with('['))
    }

    /// The items of a list, or of a text with commas between.
    pub(super) fn list(&self) -> Option<Vec<String>> {
        match self.value {
            Value::Array(_, items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            Value::String(_, text) if self.is_list() => {
                Vec::deserialize(ValueDeserializer::parse(text.trim()).ok()?).ok()
            }
            value => {
                let items = value.as_str()?.split(',').map(str::trim);
                Some(items.filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
        }
    }

    /// The value for a message; users and passwords of URLs are hidden.
    pub(super) fn show(&self) -> String {
        show(self.value)
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(_, text) => quote(&hide_user(text)),
        Value::Array(_, items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        value => scalar(value).unwrap_or_else(|| "a table".to_owned()),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, number) => {
            let whole = number.to_i128().map(|number| number.to_string());
            whole
                .or_else(|| number.to_u128().map(|number| number.to_string()))
                .or_else(|| Some(number.to_f64()?.to_string()))
        }
        _ => None,
    }
}
