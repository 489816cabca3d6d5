//! Takes settings out of the tree by name, and remembers what was asked for.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::material::Material;
use super::mistake::{Mistake, Origin, Problem, Warning};
use super::node::{self, Node, Setting, Table, Value};
use super::parse;
use super::resolved::Resolved;
use super::suggest;
use super::url::{Url, hide_user};
use crate::protocol::secret::{REDACTED, Secret};
use crate::protocol::trace::SampleRatio;

/// A set of words, each standing for a value.
pub(super) trait Choice: Sized + Copy + 'static {
    /// Word and value, in the order in which messages name them.
    const ALL: &'static [(&'static str, Self)];
}

/// Reads keys. Each one asked for is known; what is in the tree and was never asked for is a mistake.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    tree: &'t Table,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
    known: BTreeSet<String>,
    open: BTreeSet<String>,
    resolved: Resolved,
}

impl<'t> Reader<'t> {
    /// Reads from this tree.
    pub(super) fn new(tree: &'t Table) -> Self {
        Self {
            tree,
            mistakes: Vec::new(),
            warnings: Vec::new(),
            known: BTreeSet::new(),
            open: BTreeSet::new(),
            resolved: Resolved::default(),
        }
    }

    /// Adds the unknown keys to the mistakes and hands everything over.
    pub(super) fn finish(mut self) -> (Vec<Mistake>, Vec<Warning>, Resolved) {
        let names: BTreeSet<String> = self.known.iter().chain(&self.open).cloned().collect();
        suggest::find_unknown(self.tree, &names, &self.open, &mut self.mistakes);
        (self.mistakes, self.warnings, self.resolved)
    }

    /// The names of all keys asked for.
    #[cfg(test)]
    pub(super) fn known(&self) -> impl Iterator<Item = &str> {
        self.known.iter().chain(&self.open).map(String::as_str)
    }

    /// Text that must satisfy `holds`; `expected` says so in words.
    pub(super) fn checked(&mut self, key: &str, default: &str, expected: &str, holds: fn(&str) -> bool) -> String {
        let read = self.value(key, expected, |value| as_text(value).filter(|text| holds(text)));
        let text = read.unwrap_or_else(|| default.to_owned());
        self.show_text(key, Some(&text));
        text
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        let read = self.value(key, "true or false", |value| match value {
            Value::Boolean(flag) => Some(*flag),
            Value::Raw(text) => text.trim().parse().ok(),
            _ => None,
        });
        let flag = read.unwrap_or(default);
        self.resolved.push(key, flag.to_string());
        flag
    }

    /// A whole number within bounds.
    pub(super) fn number<N>(&mut self, key: &str, default: N, range: RangeInclusive<u64>) -> N
    where
        N: TryFrom<u64> + std::fmt::Display,
    {
        let expected = match (*range.start(), *range.end()) {
            (least, u64::MAX) => format!("a whole number of at least {least}"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        let read = self.value(key, &expected, |value| {
            let number = match value {
                Value::Integer(number) => u64::try_from(*number).ok()?,
                Value::Raw(text) => text.trim().replace('_', "").parse().ok()?,
                _ => return None,
            };
            N::try_from(range.contains(&number).then_some(number)?).ok()
        });
        let number = read.unwrap_or(default);
        self.resolved.push(key, number.to_string());
        number
    }

    /// A share from 0 to 1.
    pub(super) fn share(&mut self, key: &str, default: f64) -> SampleRatio {
        let read = self.value(key, "a number from 0 to 1", |value| {
            let share: f64 = as_scalar(value)?.trim().parse().ok()?;
            Some((share, SampleRatio::new(share)?))
        });
        let (share, ratio) = read.unwrap_or((default, SampleRatio::new(default).unwrap_or_default()));
        self.resolved.push(key, format!("{share:?}"));
        ratio
    }

    /// A duration of at least a millisecond.
    pub(super) fn duration(&mut self, key: &str, default: &str) -> Duration {
        let expected = format!("{}, more than 0", parse::DURATION);
        self.duration_if(key, Some(default), &expected, |duration| !duration.is_zero()).unwrap_or_default()
    }

    /// A duration, 0 included.
    pub(super) fn duration_or_zero(&mut self, key: &str, default: &str) -> Duration {
        self.duration_if(key, Some(default), parse::DURATION, |_| true).unwrap_or_default()
    }

    /// A duration of at least a millisecond, or "" for off.
    pub(super) fn optional_duration(&mut self, key: &str) -> Option<Duration> {
        let expected = format!("{}, more than 0, or \"\" for off", parse::DURATION);
        self.duration_if(key, None, &expected, |duration| !duration.is_zero())
    }

    fn duration_if(
        &mut self,
        key: &str,
        default: Option<&str>,
        expected: &str,
        holds: fn(&Duration) -> bool,
    ) -> Option<Duration> {
        let default = default.and_then(parse::duration);
        let read = self.value(key, expected, |value| match as_text(value)? {
            text if text.is_empty() && default.is_none() => Some(None),
            text => parse::duration(&text).filter(holds).map(Some),
        });
        let duration = read.flatten().or(default);
        self.show_text(key, duration.map(parse::show_duration).as_deref());
        duration
    }

    /// A size in bytes within bounds.
    pub(super) fn size(&mut self, key: &str, default: &str, range: RangeInclusive<u64>) -> u64 {
        self.size_if(key, parse::size(default), range).unwrap_or_default()
    }

    /// A size of at least one byte, or "" for no limit.
    pub(super) fn optional_size(&mut self, key: &str) -> Option<u64> {
        self.size_if(key, None, 1..=u64::MAX)
    }

    fn size_if(&mut self, key: &str, default: Option<u64>, range: RangeInclusive<u64>) -> Option<u64> {
        let bounds = match *range.end() {
            u64::MAX => format!("at least {}", parse::show_size(*range.start())),
            most => format!("from {} to {}", parse::show_size(*range.start()), parse::show_size(most)),
        };
        let expected = format!("{}, {bounds}", parse::SIZE);
        let read = self.value(key, &expected, |value| match as_text(value)? {
            text if text.is_empty() && default.is_none() => Some(None),
            text => parse::size(&text).filter(|bytes| range.contains(bytes)).map(Some),
        });
        let bytes = read.flatten().or(default);
        self.show_text(key, bytes.map(parse::show_size).as_deref());
        bytes
    }

    /// Addresses to listen on; none is off.
    pub(super) fn listen(&mut self, key: &str, default: &str) -> Vec<SocketAddr> {
        let read = self.value(key, parse::ADDRESSES, |value| match value {
            Value::List(items) => parse::addresses(&items.iter().map(as_text).collect::<Option<Vec<_>>>()?.join(",")),
            value => parse::addresses(&as_text(value)?),
        });
        let addresses = read.or_else(|| parse::addresses(default)).unwrap_or_default();
        let shown = addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
        self.show_text(key, Some(&shown));
        addresses
    }

    /// One of some words.
    pub(super) fn choice<C: Choice>(&mut self, key: &str, default: &str) -> C {
        let words: Vec<String> = C::ALL.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let expected = format!("one of {}", words.join(", "));
        let find = |text: &str| C::ALL.iter().find(|(word, _)| *word == text).copied();
        let read = self.value(key, &expected, |value| find(&as_text(value)?));
        // The first word is never used: every default is one of the words.
        let (word, value) = read.or_else(|| find(default)).unwrap_or(C::ALL[0]);
        self.show_text(key, Some(word));
        value
    }

    /// A list, each item made by `parse`; the environment gives it with commas between.
    pub(super) fn list<T: ToString>(&mut self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let read = self.value(key, expected, |value| as_list(value)?.iter().map(|item| parse(item)).collect());
        let items: Vec<T> = read.unwrap_or_default();
        let shown: Vec<String> = items.iter().map(|item| Resolved::quote(&item.to_string())).collect();
        self.resolved.push(key, format!("[{}]", shown.join(", ")));
        items
    }

    /// The URL of a server.
    pub(super) fn url(&mut self, key: &str, expected: &str, schemes: &[&str]) -> Option<Url> {
        let read = self.value(key, expected, |value| match as_text(value)? {
            text if text.is_empty() => Some(None),
            text => Url::parse(&text, schemes, false).map(Some),
        });
        let url = read.flatten();
        self.show_text(key, url.as_ref().map(Url::to_string).as_deref());
        url
    }

    /// A path; one from a file is relative to the directory of that file.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let origin = self.find(key).map(|setting| setting.origin.clone());
        let text = self.value(key, "a path", |value| as_text(value).filter(|text| !text.is_empty()))?;
        let path = resolve(&text, origin.as_ref());
        self.show_text(key, Some(&path.display().to_string()));
        Some(path)
    }

    /// PEM text or its file, from `KEY` or `KEY_file`.
    pub(super) fn material(&mut self, key: &str) -> Option<Material> {
        let file_key = format!("{key}_file");
        if self.prefers_file(key, &file_key) {
            return self.path(&file_key).map(Material::File);
        }
        let origin = self.find(key).map(|setting| setting.origin.clone());
        let text = self.value(key, "a path or PEM text", |value| as_text(value).filter(|text| !text.is_empty()))?;
        if text.trim_start().starts_with("-----BEGIN") {
            self.show_text(key, Some(REDACTED));
            return Some(Material::Text(Secret::new(text)));
        }
        let path = resolve(&text, origin.as_ref());
        self.show_text(key, Some(&path.display().to_string()));
        Some(Material::File(path))
    }

    /// A secret, from `KEY` or from the file that `KEY_file` names, without the line break at its end.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        self.secrets(key, 1).pop()
    }

    /// Up to `most` secrets: a text, a list, or a file with one in each line.
    pub(super) fn secrets(&mut self, key: &str, most: usize) -> Vec<Secret> {
        let file_key = format!("{key}_file");
        let expected = match most {
            1 => "a text that is not empty".to_owned(),
            most => format!("a text, or a list of at most {most}"),
        };
        let lines = if self.prefers_file(key, &file_key) {
            let origin = self.find(&file_key).map(|setting| setting.origin.clone());
            let Some(path) = self.path(&file_key) else { return Vec::new() };
            match fs::read_to_string(&path) {
                Ok(text) if most == 1 => vec![text.trim_end_matches(['\r', '\n']).to_owned()],
                Ok(text) => text.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect(),
                Err(error) => {
                    let reason = format!("{} cannot be read: {error}", path.display());
                    self.add(&file_key, Problem::Source { reason }, origin);
                    return Vec::new();
                }
            }
        } else {
            let setting = self.take(key);
            let Some(setting) = setting else { return Vec::new() };
            let is_list = matches!(&setting.value, Value::List(_))
                || matches!(&setting.value, Value::Raw(text) if text.trim_start().starts_with('['));
            let texts =
                if most > 1 && is_list { as_list(&setting.value) } else { as_text(&setting.value).map(|t| vec![t]) };
            let shown = if is_list { format!("[\"{REDACTED}\"]") } else { format!("\"{REDACTED}\"") };
            self.resolved.push(key, shown);
            texts.unwrap_or_default()
        };
        if lines.is_empty() || lines.len() > most || lines.iter().any(String::is_empty) {
            let given = if lines.iter().all(String::is_empty) { "nothing" } else { REDACTED };
            let origin = self.find(key).or_else(|| self.find(&file_key)).map(|setting| setting.origin.clone());
            self.add(key, Problem::Wrong { given: given.to_owned(), expected }, origin);
            return Vec::new();
        }
        lines.into_iter().map(Secret::new).collect()
    }

    /// Every key below a section, whatever its name; nested names are joined with dots. Values are shown unless
    /// `is_secret` says otherwise of the name; those may come from `NAME_file`.
    pub(super) fn properties(&mut self, key: &str, is_secret: fn(&str) -> bool) -> Vec<(String, Secret)> {
        let expected = "a text, a whole number, true or false";
        self.open.insert(key.to_owned());
        let names = match node::find(self.tree, key) {
            Some(Node::Table(table)) => leaves(table),
            _ => Vec::new(),
        };
        let mut all = Vec::new();
        let mut done = BTreeSet::new();
        for name in names {
            let base = name.strip_suffix("_file").filter(|base| is_secret(base)).unwrap_or(&name);
            let full = format!("{key}.{base}");
            if !done.insert(base.to_owned()) {
                continue;
            }
            let value = if is_secret(base) {
                self.secret(&full)
            } else {
                let text = self.value(&full, expected, as_scalar);
                self.show_text(&full, text.as_deref());
                text.map(Secret::new)
            };
            all.extend(value.map(|value| (base.to_owned(), value)));
        }
        all
    }

    /// Whether some source sets this key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Whether some source sets this key to anything but "".
    pub(super) fn is_set_to_something(&self, key: &str) -> bool {
        self.find(key).is_some_and(|setting| as_text(&setting.value).is_none_or(|text| !text.trim().is_empty()))
    }

    /// Adds a mistake about a key, with the place that set it.
    pub(super) fn mistake(&mut self, key: &str, problem: Problem) {
        let origin = self.find(key).map(|setting| setting.origin.clone());
        self.add(key, problem, origin);
    }

    /// Adds a warning about a key.
    pub(super) fn warn(&mut self, key: &str, text: impl Into<String>) {
        self.warnings.push(Warning { key: key.to_owned(), text: text.into() });
    }

    fn add(&mut self, key: &str, problem: Problem, origin: Option<Origin>) {
        self.mistakes.push(Mistake { key: key.to_owned(), problem, origin });
    }

    fn find(&self, key: &str) -> Option<&'t Setting> {
        match node::find(self.tree, key)? {
            Node::Leaf(setting) => Some(setting),
            Node::Table(_) => None,
        }
    }

    fn take(&mut self, key: &str) -> Option<&'t Setting> {
        self.known.insert(key.to_owned());
        match node::find(self.tree, key)? {
            Node::Leaf(setting) => Some(setting),
            node @ Node::Table(_) => {
                let problem = Problem::Wrong { given: "a table".to_owned(), expected: "a value".to_owned() };
                self.add(key, problem, node.origin().cloned());
                None
            }
        }
    }

    fn value<T>(&mut self, key: &str, expected: &str, read: impl Fn(&Value) -> Option<T>) -> Option<T> {
        let setting = self.take(key)?;
        let value = read(&setting.value);
        if value.is_none() {
            let problem = Problem::Wrong { given: show(&setting.value), expected: expected.to_owned() };
            self.add(key, problem, Some(setting.origin.clone()));
        }
        value
    }

    /// Whether the file of a secret counts rather than the secret itself: that of the later source.
    fn prefers_file(&mut self, key: &str, file_key: &str) -> bool {
        let (own, file) = (self.find(key), self.find(file_key));
        self.known.extend([key.to_owned(), file_key.to_owned()]);
        if let (Some(own), Some(file)) = (own, file)
            && own.layer == file.layer
        {
            let reason = format!("set together with {file_key}; one of the two is enough");
            self.add(key, Problem::Conflict { reason }, Some(own.origin.clone()));
        }
        file.is_some_and(|file| own.is_none_or(|own| own.layer < file.layer))
    }

    fn show_text(&mut self, key: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.resolved.push(key, Resolved::quote(text));
        }
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) | Value::Raw(text) => Some(text.clone()),
        _ => None,
    }
}

fn as_scalar(value: &Value) -> Option<String> {
    match value {
        Value::Text(text) | Value::Raw(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Other(text) if text.parse::<f64>().is_ok() => Some(text.clone()),
        Value::List(_) | Value::Other(_) => None,
    }
}

fn as_list(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::List(items) => items.iter().map(as_text).collect(),
        Value::Raw(text) if text.trim_start().starts_with('[') => match DeValue::parse(text.trim()).ok()?.get_ref() {
            DeValue::Array(items) => items.iter().map(|item| as_text(&node::convert(item))).collect(),
            _ => None,
        },
        Value::Raw(text) | Value::Text(text) => {
            Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
        _ => None,
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Raw(text) => Resolved::quote(&hide_user(text)),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", ")),
        Value::Other(text) => text.clone(),
    }
}

fn resolve(text: &str, origin: Option<&Origin>) -> PathBuf {
    match origin {
        Some(Origin::File(file, _)) => file.parent().unwrap_or(Path::new("")).join(text),
        Some(Origin::BuiltIn) => Path::new("config").join(text),
        _ => PathBuf::from(text),
    }
}

fn leaves(table: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for (name, node) in table {
        match node {
            Node::Leaf(_) => names.push(name.clone()),
            Node::Table(inner) => names.extend(leaves(inner).into_iter().map(|rest| format!("{name}.{rest}"))),
        }
    }
    names
}
