//! The reader of configuration keys. It reads each key from the merged sources by name, and collects mistakes. Keys that are
//! set and were never read are mistakes, too.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use figment::Figment;
use figment::value::Value;

use super::material::Material;
use super::mistake::{Mistake, Problem, Warning};
use super::parse;
use super::resolved::{Resolved, quote};
use super::secret_list::{self, SecretList};
use super::section::Section;
use super::setting::Setting;
use super::unknown;
use super::url::Url;
use crate::protocol::secret::{REDACTED, Secret};
use crate::protocol::trace::SampleRatio;

/// A type whose values are named by words in the configuration.
pub(super) trait Choice: Sized + Copy + 'static {
    /// Words and their values, in the order in which error messages list them.
    const ALL: &'static [(&'static str, Self)];
}

/// Reads keys, and collects mistakes, warnings and the resolved configuration.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    figment: &'t Figment,
    tree: &'t Value,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
    /// Keys that were read, whether they are set or not.
    known: BTreeSet<String>,
    /// Sections in which every key counts as known.
    open: BTreeSet<String>,
    resolved: Resolved,
}

impl<'t> Reader<'t> {
    /// A reader of these sources; `tree` is the result of their merge.
    pub(super) fn new(figment: &'t Figment, tree: &'t Value) -> Self {
        Self {
            figment,
            tree,
            mistakes: Vec::new(),
            warnings: Vec::new(),
            known: BTreeSet::new(),
            open: BTreeSet::new(),
            resolved: Resolved::default(),
        }
    }

    /// Adds the unknown keys to the mistakes, and returns what was collected.
    pub(super) fn finish(mut self) -> (Vec<Mistake>, Vec<Warning>, Resolved) {
        for (key, problem) in unknown::find(self.tree, &self.known, &self.open) {
            self.mistake(&key, problem);
        }
        (self.mistakes, self.warnings, self.resolved)
    }

    /// The names of all known keys and open sections.
    pub(super) fn known(&self) -> impl Iterator<Item = &str> {
        self.known.iter().chain(&self.open).map(String::as_str)
    }

    /// A section of the configuration.
    pub(super) fn section<S: Section>(&mut self, name: &str) -> S {
        S::read(self, name)
    }

    /// A text that passes `is_valid`; `expected` describes such a text.
    pub(super) fn checked(
        &mut self,
        key: &str,
        default: &str,
        expected: &str,
        is_valid: impl Fn(&str) -> bool,
    ) -> String {
        let parse = |setting: &Setting<'_>| setting.text().filter(|text| is_valid(text)).map(str::to_owned);
        self.read(key, expected, default.to_owned(), parse, |text| quote(text))
    }

    /// As [`Reader::checked`], or "", the default, for none.
    pub(super) fn optional_text(&mut self, key: &str, expected: &str, is_valid: fn(&str) -> bool) -> Option<String> {
        let text = self.checked(key, "", expected, |text| text.is_empty() || is_valid(text));
        Some(text).filter(|text| !text.is_empty())
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.read(key, "true or false", default, |setting| setting.flag(), bool::to_string)
    }

    /// A whole number within `range`.
    pub(super) fn number<N: TryFrom<u64> + Display>(&mut self, key: &str, default: N, range: RangeInclusive<u64>) -> N {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let parse = |setting: &Setting<'_>| {
            setting.number().filter(|number| range.contains(number)).and_then(|number| N::try_from(number).ok())
        };
        self.read(key, &expected, default, parse, N::to_string)
    }

    /// A sampling ratio from 0 to 1.
    pub(super) fn share(&mut self, key: &str, default: f64) -> SampleRatio {
        let parse = |setting: &Setting<'_>| {
            let ratio: f64 = setting.scalar()?.trim().parse().ok()?;
            Some((ratio, SampleRatio::new(ratio)?))
        };
        let default = (default, SampleRatio::new(default).unwrap_or_default());
        self.read(key, "a number from 0 to 1", default, parse, |(ratio, _)| format!("{ratio:?}")).1
    }

    /// A duration of at least a millisecond.
    pub(super) fn duration(&mut self, key: &str, default: &str) -> Duration {
        let expected = format!("{}, more than 0", parse::DURATION);
        self.optional(key, &expected, parse::duration(default), duration_above_zero, show_duration).unwrap_or_default()
    }

    /// A duration, 0 included.
    pub(super) fn duration_or_zero(&mut self, key: &str, default: &str) -> Duration {
        let default = parse::duration(default);
        self.optional(key, parse::DURATION, default, parse::duration, show_duration).unwrap_or_default()
    }

    /// A duration of at least a millisecond, or "" for off.
    pub(super) fn optional_duration(&mut self, key: &str) -> Option<Duration> {
        let expected = format!("{}, more than 0, or \"\" for off", parse::DURATION);
        self.optional(key, &expected, None, duration_above_zero, show_duration)
    }

    /// A duration; 0, the default, is never.
    pub(super) fn duration_or_never(&mut self, key: &str) -> Option<Duration> {
        Some(self.duration_or_zero(key, "0s")).filter(|duration| !duration.is_zero())
    }

    /// A size in bytes within `range`.
    pub(super) fn size(&mut self, key: &str, default: &str, range: RangeInclusive<u64>) -> usize {
        let [least, most] = [range.start(), range.end()].map(|bytes| parse::show_size(*bytes));
        let expected = format!("{}, from {least} to {most}", parse::SIZE);
        let parse = |text: &str| parse::size(text).filter(|bytes| range.contains(bytes));
        let bytes = self.optional(key, &expected, parse::size(default), parse, show_size).unwrap_or_default();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// A size of at least one byte, or "" for no limit.
    pub(super) fn optional_size(&mut self, key: &str) -> Option<u64> {
        let expected = format!("{}, at least 1B", parse::SIZE);
        self.optional(key, &expected, None, |text| parse::size(text).filter(|bytes| *bytes > 0), show_size)
    }

    /// The URL of a server, or "" for none.
    pub(super) fn url(&mut self, key: &str, expected: &str, schemes: &[&str]) -> Option<Url> {
        self.optional(key, expected, None, |text| Url::parse(text, schemes, false), Url::to_string)
    }

    /// Addresses to listen on; an empty list for off.
    pub(super) fn listen(&mut self, key: &str, default: &str) -> Vec<SocketAddr> {
        let default = parse::addresses(default).unwrap_or_default();
        let parse = |setting: &Setting<'_>| match setting.text() {
            Some(text) => parse::addresses(text),
            None => parse::addresses(&setting.list()?.join(",")),
        };
        let show = |addresses: &Vec<SocketAddr>| {
            quote(&addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", "))
        };
        self.read(key, parse::ADDRESSES, default, parse, show)
    }

    /// A value of `C`, by its word.
    pub(super) fn choice<C: Choice>(&mut self, key: &str, default: &str) -> C {
        let words: Vec<String> = C::ALL.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let expected = format!("one of {}", words.join(", "));
        let find = |text: &str| C::ALL.iter().find(|(word, _)| *word == text).copied();
        // Every default is one of the words, so the first value is never used instead.
        let default = find(default).unwrap_or(C::ALL[0]);
        self.read(key, &expected, default, |setting| find(setting.text()?), |(word, _)| quote(word)).1
    }

    /// A list whose items are read by `parse`. An environment variable has commas between the items.
    pub(super) fn list<T: ToString>(&mut self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Vec<T> {
        let show = |items: &Vec<T>| {
            format!("[{}]", items.iter().map(|item| quote(&item.to_string())).collect::<Vec<_>>().join(", "))
        };
        let parse = |setting: &Setting<'_>| setting.list()?.iter().map(|item| parse(item)).collect();
        self.read(key, expected, Vec::new(), parse, show)
    }

    /// A path. A relative path in a configuration file is relative to the directory of that file.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.value(key, "a path", |setting| Some(setting.folder().join(setting.nonempty()?)))?;
        self.add_resolved(key, quote(&path.display().to_string()));
        Some(path)
    }

    /// PEM certificates or keys, or their file: from `KEY`, or from the file that `KEY_file` names.
    pub(super) fn material(&mut self, key: &str) -> Option<Material> {
        let file_key = format!("{key}_file");
        if self.prefers_file(key, &file_key) {
            return self.path(&file_key).map(Material::File);
        }
        let material = self.value(key, "a path or PEM text", |setting| {
            let text = setting.nonempty()?;
            let is_pem = text.trim_start().starts_with("-----BEGIN");
            Some(if is_pem { Material::Text(Secret::new(text)) } else { Material::File(setting.folder().join(text)) })
        })?;
        let shown = material.path().map_or(REDACTED.to_owned(), |path| path.display().to_string());
        self.add_resolved(key, quote(&shown));
        Some(material)
    }

    /// A secret, from `KEY` or from the file that `KEY_file` names, without the line break at its end.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        self.secrets(key, 1).pop()
    }

    /// Up to `max` secrets: a text, a list, or a file with one secret in each line.
    pub(super) fn secrets(&mut self, key: &str, max: usize) -> Vec<Secret> {
        self.secrets_and_file(key, max).0
    }

    /// As [`Reader::secrets`], with the file, which is read again when it changes.
    pub(super) fn secret_list(&mut self, key: &str, max: usize) -> SecretList {
        let (secrets, file) = self.secrets_and_file(key, max);
        SecretList::new(secrets, file, max)
    }

    fn secrets_and_file(&mut self, key: &str, max: usize) -> (Vec<Secret>, Option<PathBuf>) {
        let file_key = format!("{key}_file");
        let mut file = None;
        let (origin, texts) = if self.prefers_file(key, &file_key) {
            let Some(path) = self.path(&file_key) else { return Default::default() };
            let texts = match fs::read_to_string(&path) {
                Ok(text) if max == 1 => vec![text.trim_end_matches(['\r', '\n']).to_owned()],
                Ok(text) => secret_list::lines(&text).map(str::to_owned).collect(),
                Err(error) => {
                    self.invalid(&file_key, format!("{} cannot be read: {error}", path.display()));
                    return Default::default();
                }
            };
            file = Some(path);
            (self.origin(&file_key), texts)
        } else {
            let Some(setting) = self.look_up(key) else { return Default::default() };
            let is_list = max > 1 && setting.is_list();
            let shown = quote(REDACTED);
            self.add_resolved(key, if is_list { format!("[{shown}]") } else { shown });
            let texts = if is_list { setting.list() } else { setting.text().map(|text| vec![text.to_owned()]) };
            (Some(setting.origin()), texts.unwrap_or_default())
        };
        if texts.is_empty() || texts.len() > max || texts.iter().any(String::is_empty) {
            let given = if texts.iter().all(String::is_empty) { "nothing" } else { REDACTED }.to_owned();
            let expected = match max {
                1 => "a text that is not empty".to_owned(),
                max => format!("a text, or a list of at most {max}"),
            };
            self.add(key, Problem::Wrong { given, expected }, origin);
            return Default::default();
        }
        (texts.into_iter().map(Secret::new).collect(), file)
    }

    /// All keys below a section, with any name. Nested names are joined with dots. A value whose name `is_secret` is not
    /// shown, and may come from the file that `NAME_file` names.
    pub(super) fn properties(&mut self, key: &str, is_secret: fn(&str) -> bool) -> Vec<(String, Secret)> {
        self.open.insert(key.to_owned());
        let names = self.tree.find_ref(key).map(unknown::keys_below).unwrap_or_default();
        let base = |name: &str| name.strip_suffix("_file").filter(|base| is_secret(base)).unwrap_or(name).to_owned();
        let names: BTreeSet<String> = names.iter().map(|name| base(name)).collect();
        let mut all = Vec::new();
        for name in names {
            let full = format!("{key}.{name}");
            let value = if is_secret(&name) {
                self.secret(&full)
            } else {
                let text = self.value(&full, "a text, a whole number, true or false", |setting| setting.scalar());
                text.map(|text| {
                    self.add_resolved(&full, quote(&text));
                    Secret::new(text)
                })
            };
            all.extend(value.map(|value| (name, value)));
        }
        all
    }

    /// Whether a source sets this key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// Adds a mistake about a key, with the origin of its value.
    pub(super) fn mistake(&mut self, key: &str, problem: Problem) {
        let origin = self.origin(key);
        self.add(key, problem, origin);
    }

    /// Adds the mistake that the value of a key cannot be used, for `reason`.
    pub(super) fn invalid(&mut self, key: &str, reason: impl Into<String>) {
        self.mistake(key, Problem::Invalid { reason: reason.into() });
    }

    /// Adds the mistake that a key is needed, unless `is_there`. None is added for a value that is set and invalid, as it was
    /// reported before.
    pub(super) fn missing(&mut self, key: &str, is_there: bool, needed: impl Into<String>) {
        let is_empty = |setting: Setting<'_>| setting.text().is_some_and(|text| text.trim().is_empty());
        if !is_there && self.find(key).is_none_or(is_empty) {
            self.mistake(key, Problem::Missing { needed: needed.into() });
        }
    }

    /// Adds the mistake that a key is missing, for each of two keys: if the other key is set, or if the setting `user` needs
    /// both.
    pub(super) fn needs_both(&mut self, keys: [(&str, bool); 2], user: Option<&str>) {
        for ((key, is_there), (other, has_other)) in [(keys[0], keys[1]), (keys[1], keys[0])] {
            if let Some(user) = if has_other { Some(other) } else { user } {
                self.missing(key, is_there, format!("{user} needs it"));
            }
        }
    }

    /// Adds a warning about a key.
    pub(super) fn warn(&mut self, key: &str, text: impl Into<String>) {
        self.warnings.push(Warning { key: key.to_owned(), text: text.into() });
    }

    fn add(&mut self, key: &str, problem: Problem, origin: Option<String>) {
        self.mistakes.push(Mistake { key: key.to_owned(), problem, origin });
    }

    fn find(&self, key: &str) -> Option<Setting<'t>> {
        Setting::find(self.figment, self.tree, key)
    }

    /// The origin of a key's value, or of the first key in a section.
    fn origin(&self, key: &str) -> Option<String> {
        let first = unknown::keys_below(self.tree.find_ref(key)?).first().map(|below| format!("{key}.{below}"));
        self.find(first.as_deref().unwrap_or(key)).map(|setting| setting.origin())
    }

    /// The setting of a key, which is known from now on. A table in its place is a mistake.
    fn look_up(&mut self, key: &str) -> Option<Setting<'t>> {
        self.known.insert(key.to_owned());
        let setting = self.find(key);
        if setting.is_none() && self.tree.find_ref(key).is_some() {
            self.mistake(key, Problem::Wrong { given: "a table".to_owned(), expected: "a value".to_owned() });
        }
        setting
    }

    /// The value of a key; `None` if it is not set. An invalid value is a mistake, and `None`, too.
    fn value<T>(&mut self, key: &str, expected: &str, parse: impl Fn(&Setting<'_>) -> Option<T>) -> Option<T> {
        let setting = self.look_up(key)?;
        let value = parse(&setting);
        if value.is_none() {
            self.mistake(key, Problem::Wrong { given: setting.show(), expected: expected.to_owned() });
        }
        value
    }

    /// The value of a key, or the default. Adds it to the resolved configuration.
    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        default: T,
        parse: impl Fn(&Setting<'_>) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> T {
        let value = self.value(key, expected, parse).unwrap_or(default);
        self.add_resolved(key, show(&value));
        value
    }

    /// The value of a key with a text that `parse` reads, or the default. If there is no default, "" means `None`, which is
    /// not added to the resolved configuration.
    fn optional<T>(
        &mut self,
        key: &str,
        expected: &str,
        default: Option<T>,
        parse: impl Fn(&str) -> Option<T>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let may_be_empty = default.is_none();
        let read = self.value(key, expected, |setting| match setting.text()? {
            "" if may_be_empty => Some(None),
            text => parse(text).map(Some),
        });
        let value = read.flatten().or(default);
        if let Some(value) = &value {
            self.add_resolved(key, quote(&show(value)));
        }
        value
    }

    /// Whether `KEY_file` is used instead of `KEY`: only it is set, or a later source sets it. Both in one source are a
    /// mistake.
    fn prefers_file(&mut self, key: &str, file_key: &str) -> bool {
        self.known.extend([key.to_owned(), file_key.to_owned()]);
        let (Some(own), Some(file)) = (self.find(key), self.find(file_key)) else { return self.is_set(file_key) };
        let is_conflict = own.source() == file.source();
        if is_conflict {
            self.invalid(key, format!("set together with {file_key}; one of the two is enough"));
        }
        !is_conflict && own.tag() < file.tag()
    }

    /// Adds a key to the resolved configuration. The names of properties may have dots, so their section is not the part
    /// before the last dot.
    fn add_resolved(&mut self, key: &str, value: String) {
        let property =
            self.open.iter().find_map(|open| Some((open.as_str(), key.strip_prefix(open)?.strip_prefix('.')?)));
        let (section, name) = property.or_else(|| key.rsplit_once('.')).unwrap_or(("", key));
        self.resolved.push(section, name, value);
    }
}

fn duration_above_zero(text: &str) -> Option<Duration> {
    parse::duration(text).filter(|duration| !duration.is_zero())
}

fn show_duration(duration: &Duration) -> String {
    parse::show_duration(*duration)
}

fn show_size(bytes: &u64) -> String {
    parse::show_size(*bytes)
}
