//! What can be wrong with a configuration, and what is merely odd about it.

use std::fmt;
use std::path::PathBuf;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The configuration for development that is part of the program.
    BuiltIn,
    /// A file and, where known, the line in it.
    File(PathBuf, Option<usize>),
    /// This environment variable.
    Environment(String),
    /// `--set` with this key.
    Set(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::BuiltIn => f.write_str("the built-in configuration for development"),
            Origin::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Origin::File(path, None) => write!(f, "{}", path.display()),
            Origin::Environment(name) => f.write_str(name),
            Origin::Set(key) => write!(f, "--set {key}"),
        }
    }
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// No such key, or no such section; with the name that was probably meant.
    Unknown {
        /// The nearest key or section.
        suggestion: Option<String>,
    },
    /// The value does not fit.
    Wrong {
        /// As given; secrets are redacted.
        given: String,
        /// In words, with an example.
        expected: String,
    },
    /// The key is needed and not set.
    Missing {
        /// What for.
        needed: String,
    },
    /// Two settings contradict each other.
    Conflict {
        /// In one sentence.
        reason: String,
    },
    /// A file cannot be read, or is no TOML.
    Source {
        /// The system's or the parser's words.
        reason: String,
    },
}

/// One mistake. The text names the key, what was given, what is expected, and where it was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Full name of the key or section; for a source that cannot be read, its name.
    pub key: String,
    /// What is wrong with it.
    pub problem: Problem,
    /// Where it was set; `None` when it was not.
    pub origin: Option<Origin>,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key)?;
        match &self.problem {
            Problem::Unknown { suggestion: Some(name) } => write!(f, "unknown key, did you mean {name}?")?,
            Problem::Unknown { suggestion: None } => f.write_str("unknown key")?,
            Problem::Wrong { given, expected } => write!(f, "{given} given, expected {expected}")?,
            Problem::Missing { needed } => write!(f, "not set, but {needed}")?,
            Problem::Conflict { reason } | Problem::Source { reason } => f.write_str(reason)?,
        }
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a configuration; one per line when shown. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Something that works, and probably is not what was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Full name of the key.
    pub key: String,
    /// In one sentence.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.text)
    }
}
