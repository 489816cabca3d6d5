//! Texts that no log, error or dump may show.

use std::fmt;

use subtle::ConstantTimeEq;

/// A password, token or key. `Debug` and `Display` redact it; [`Secret::expose`] is the only way to the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

/// Text that is shown in place of a secret.
pub const REDACTED: &str = "<redacted>";

impl Secret {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into().into_boxed_str())
    }

    /// The text itself; for the one place that needs it, never for a message.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `text` is the secret, in a time that depends on the lengths alone: texts of different length differ at once.
    pub fn matches(&self, text: &str) -> bool {
        self.0.as_bytes().ct_eq(text.as_bytes()).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_neither_in_debug_nor_in_display() {
        let secret = Secret::new("testtesttesttest");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "<redacted> <redacted> Some(<redacted>)");
        assert_eq!(secret.expose(), "testtesttesttest");
    }

    #[test]
    fn only_the_same_text_matches() {
        let secret = Secret::new("abc");
        assert!(secret.matches("abc"));
        for other in ["", "ab", "abd", "abcd", "ABC"] {
            assert!(!secret.matches(other), "{other}");
        }
    }
}
