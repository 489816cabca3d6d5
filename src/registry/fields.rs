//! The members of a record, read in one way from JSON and from TOML.

use super::Credentials;
use super::mistake::RecordError;
use crate::protocol::id::IdError;
use crate::protocol::secret::Secret;

/// A value, as far as records have such.
pub(super) enum Field<'r> {
    Text(&'r str),
    Flag(bool),
    Other,
}

/// The members of a record in one syntax, with their places in its text.
pub(super) trait Members {
    /// All keys that are there.
    fn names(&self) -> impl Iterator<Item = (&str, usize)>;

    /// The value of a key; `None` where it is absent.
    fn field(&self, key: &str) -> Option<(Field<'_>, usize)>;
}

/// A record while it is read.
pub(super) struct Fields<'r, M> {
    members: &'r M,
    place: usize,
    /// Mistakes in it, with their places.
    pub(super) mistakes: Vec<(usize, RecordError)>,
}

impl<'r, M: Members> Fields<'r, M> {
    /// `place` is that of the record itself. Keys that are not among `known` are mistakes; with `None` none is.
    pub(super) fn new(members: &'r M, place: usize, known: Option<&[&str]>) -> Self {
        let is_unknown = |name: &&str| known.is_some_and(|known| !known.contains(name));
        let unknown = members.names().filter(|(name, _)| is_unknown(name));
        let mistakes = unknown.map(|(name, place)| (place, RecordError::UnknownKey(name.to_owned()))).collect();
        Self { members, place, mistakes }
    }

    /// Adds a mistake of the record as a whole.
    pub(super) fn add(&mut self, error: RecordError) {
        self.mistakes.push((self.place, error));
    }

    fn text(&mut self, key: &'static str) -> Option<(&'r str, usize)> {
        match self.members.field(key)? {
            (Field::Text(text), place) => Some((text, place)),
            (_, place) => {
                self.mistakes.push((place, RecordError::Type(key, "a text in quotes")));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.members.field(key) {
            None => default,
            Some((Field::Flag(flag), _)) => flag,
            Some((_, place)) => {
                self.mistakes.push((place, RecordError::Type(key, "true or false")));
                default
            }
        }
    }

    pub(super) fn id<I>(&mut self, key: &'static str, make: fn(&str) -> Result<I, IdError>) -> Option<I> {
        if self.members.field(key).is_none() {
            self.add(RecordError::Missing(key));
        }
        self.optional_id(key, make)
    }

    pub(super) fn optional_id<I>(&mut self, key: &'static str, make: fn(&str) -> Result<I, IdError>) -> Option<I> {
        let (text, place) = self.text(key)?;
        make(text).map_err(|error| self.mistakes.push((place, RecordError::Id(key, error)))).ok()
    }

    pub(super) fn credentials(&mut self, id_key: &'static str, secret_key: &'static str) -> Option<Credentials> {
        let before = self.mistakes.len();
        let (id, secret) = (self.text(id_key), self.text(secret_key));
        match (id, secret) {
            (None, None) => None,
            (Some((id, _)), Some((secret, _))) if !id.is_empty() && !secret.is_empty() => {
                if id.contains('|') {
                    self.add(RecordError::SecureId(id_key));
                    return None;
                }
                Some(Credentials { secure_id: id.into(), secure_key: Secret::new(secret) })
            }
            _ => {
                // A value of a wrong type was reported already.
                if self.mistakes.len() == before {
                    self.add(RecordError::HalfSecret(id_key, secret_key));
                }
                None
            }
        }
    }
}
