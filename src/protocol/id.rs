//! Names of products and devices.

use std::fmt;
use std::sync::Arc;

/// Longest id in bytes; shorter than 1 is no id either (contract of the topics).
pub const ID_BYTES_MAX: usize = 64;

/// Error of a text that is not an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty.
    #[error("an id must not be empty")]
    Empty,
    /// Longer than [`ID_BYTES_MAX`] bytes.
    #[error("an id has at most {ID_BYTES_MAX} bytes")]
    TooLong,
    /// Holds `/`, `+`, `#` or a control character, which no topic segment can carry.
    #[error("an id must not contain {0:?}")]
    Character(char),
}

/// Whether a topic segment has the length of an id. Segments never hold `/`, and MQTT keeps `+` and `#` out of them.
pub fn is_id_segment(segment: &str) -> bool {
    !segment.is_empty() && segment.len() <= ID_BYTES_MAX
}

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > ID_BYTES_MAX {
        return Err(IdError::TooLong);
    }
    match text.chars().find(|c| matches!(c, '/' | '+' | '#') || c.is_control()) {
        Some(c) => Err(IdError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text of 1 to 64 bytes without `/`, `+`, `#` and control characters.
            ///
            /// # Errors
            /// [`IdError`] says which rule the text breaks.
            pub fn new(text: &str) -> Result<Self, IdError> {
                Self::check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// Looks whether [`Self::new`] takes the text.
            ///
            /// # Errors
            /// As [`Self::new`].
            pub fn check(text: &str) -> Result<(), IdError> {
                check(text)
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id! {
    /// A product: what devices of one kind share. Cheap to clone.
    ProductId
}
id! {
    /// A device; over MQTT also its client id. Cheap to clone.
    DeviceId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_1_to_64_bytes_and_no_topic_syntax() {
        assert_eq!(DeviceId::new(""), Err(IdError::Empty));
        assert_eq!(DeviceId::new(&"x".repeat(65)), Err(IdError::TooLong));
        assert_eq!(DeviceId::new("a/b"), Err(IdError::Character('/')));
        assert_eq!(DeviceId::new("a\n"), Err(IdError::Character('\n')));
        assert_eq!(DeviceId::new(&"x".repeat(64)).map(|id| id.as_str().len()), Ok(64));
        assert_eq!(ProductId::new("温度").map(|id| id.to_string()), Ok("温度".to_owned()));
    }
}
