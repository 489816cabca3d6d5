//! Mistakes and warnings about a configuration.

use std::fmt;

use thiserror::Error;

/// The reason why a key, or a source, cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// No such key or section; the name that was probably meant, if one is near.
    #[error("unknown key{}", advice(.suggestion.as_deref(), .section))]
    Unknown {
        /// The nearest key or section.
        suggestion: Option<String>,
        /// Names of the keys of the same section; empty where there is no such section.
        section: Vec<String>,
    },
    /// The value has a wrong type, unit or range.
    #[error("{given} given, expected {expected}")]
    Wrong {
        /// The value as given; secrets are redacted.
        given: String,
        /// The expected form in words, with an example.
        expected: String,
    },
    /// The key is needed and not set.
    #[error("not set, but {needed}")]
    Missing {
        /// The setting that needs it.
        needed: String,
    },
    /// Any other reason, such as a contradiction between two settings, or a file that cannot be read.
    #[error("{reason}")]
    Invalid {
        /// The reason in one sentence.
        reason: String,
    },
}

/// The name that was probably meant, else all names that there are.
fn advice(suggestion: Option<&str>, section: &[String]) -> String {
    match suggestion {
        Some(name) => format!(", did you mean {name}?"),
        None if section.is_empty() => String::new(),
        None => format!(", the section has {}", section.join(", ")),
    }
}

/// One mistake. Its text names the key, what was given, what is expected, and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Full name of the key or section; for a source that cannot be read, its name.
    pub key: String,
    /// The reason.
    pub problem: Problem,
    /// File and line, environment variable or argument that sets the key; `None` when nothing does.
    pub origin: Option<String>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)?;
        self.origin.as_ref().map_or(Ok(()), |origin| write!(f, " ({origin})"))
    }
}

/// All mistakes of a configuration, one a line when shown. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))
    }
}

impl std::error::Error for Mistakes {}

/// A setting that works, and probably is not what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Full name of the key.
    pub key: String,
    /// The warning in one sentence.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}
