//! The configuration as it came out, in words.

use std::fmt;

/// Every key with its value in TOML, secrets redacted. `Display` gives a file that loads again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    keys: Vec<(String, String)>,
}

impl Resolved {
    /// Adds a key; `value` is TOML.
    pub(super) fn push(&mut self, key: &str, value: String) {
        self.keys.push((key.to_owned(), value));
    }

    /// A text as TOML writes it.
    pub(super) fn quote(text: &str) -> String {
        toml::Value::String(text.to_owned()).to_string()
    }

    /// The value of a key in TOML; `None` when it is unset or unknown.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Properties have dots in their names and share one section.
        let split = |name: &str| -> (String, String) {
            let (section, key) = match name.strip_prefix("kafka.properties.") {
                Some(property) => ("kafka.properties", property),
                None => name.rsplit_once('.').unwrap_or(("", name)),
            };
            let is_bare = key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
            (section.to_owned(), if is_bare { key.to_owned() } else { Self::quote(key) })
        };
        let mut sections: Vec<(String, Vec<String>)> = Vec::new();
        for (name, value) in &self.keys {
            let (section, key) = split(name);
            let line = format!("{key} = {value}");
            match sections.iter_mut().find(|(other, _)| *other == section) {
                Some((_, lines)) => lines.push(line),
                None => sections.push((section, vec![line])),
            }
        }
        for (at, (section, lines)) in sections.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            writeln!(f, "{separator}[{section}]")?;
            for line in lines {
                writeln!(f, "{line}")?;
            }
        }
        Ok(())
    }
}
