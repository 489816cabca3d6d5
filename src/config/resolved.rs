//! The resolved configuration, as TOML.

use std::fmt;

/// Every key with its value in TOML, secrets redacted. `Display` gives a file that loads again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Sections in the order of their keys.
    sections: Vec<(String, Vec<(String, String)>)>,
}

impl Resolved {
    /// Adds a key to its section; `value` is TOML.
    pub(super) fn push(&mut self, section: &str, key: &str, value: String) {
        let (key, value) = (key.to_owned(), value);
        match self.sections.iter_mut().find(|(name, _)| name == section) {
            Some((_, keys)) => keys.push((key, value)),
            None => self.sections.push((section.to_owned(), vec![(key, value)])),
        }
    }

    /// The value of a key in TOML; `None` when it is unset or unknown.
    #[cfg(test)]
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        let (section, key) = key.rsplit_once('.')?;
        let (_, keys) = self.sections.iter().find(|(name, _)| name == section)?;
        keys.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (section, keys)) in self.sections.iter().enumerate() {
            writeln!(f, "{}[{section}]", if at == 0 { "" } else { "\n" })?;
            for (key, value) in keys {
                let is_bare = key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
                writeln!(f, "{} = {value}", if is_bare { key.clone() } else { quote(key) })?;
            }
        }
        Ok(())
    }
}

/// A text as TOML writes it.
pub(super) fn quote(text: &str) -> String {
    toml::Value::from(text).to_string()
}
