//! The query of a request to `/api`.

use std::borrow::Cow;

use super::sessions::{Replicas, SessionQuery};
use crate::protocol::address;

/// Sessions in one answer, unless `limit` says otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Sessions in one answer at most; some 300 KiB.
const LIMIT_MAX: usize = 1_000;

const NUMBERS: &str = "offset is a number, limit one from 1 to 1000";
const REPLICAS: &str = "replicas is this or all, replica the id or the host name of one";
const TWICE: &str = "replica and replicas do not go together";
const OFFSET: &str = "offset counts the sessions of one replica: with others use after";
const UNKNOWN: &str = "there are offset, limit, after, product, prefix, replica and replicas";
const ENCODING: &str = "a value is not percent-encoded UTF-8";

impl Replicas {
    /// The replicas that a word stands for; `None`: it stands for none.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        match word {
            "this" => Some(Replicas::This),
            "all" => Some(Replicas::All),
            _ => None,
        }
    }
}

/// Reads the query of `/api/sessions`.
///
/// # Errors
/// The text says what is wrong.
pub(super) fn sessions(query: &str) -> Result<SessionQuery, &'static str> {
    let mut read = SessionQuery { limit: LIMIT_DEFAULT, ..SessionQuery::default() };
    let (mut word, mut names) = (None, Vec::new());
    for pair in pairs(query) {
        let (name, value) = pair?;
        match name {
            "offset" => read.offset = value.parse().map_err(|_| NUMBERS)?,
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                read.limit = limit.ok_or(NUMBERS)?;
            }
            "after" => read.after = Some(value.into_owned()),
            "product" => read.product = Some(value.into_owned()),
            "prefix" => read.prefix = Some(value.into_owned()),
            "replicas" => word = Some(Replicas::of_word(&value).ok_or(REPLICAS)?),
            "replica" if !value.is_empty() => names.push(value.into_owned()),
            "replica" => return Err(REPLICAS),
            _ => return Err(UNKNOWN),
        }
    }
    read.replicas = chosen(word, names)?;
    if read.offset > 0 && read.replicas != Replicas::This {
        return Err(OFFSET);
    }
    Ok(read)
}

/// Reads the query of `/api/shed`.
///
/// # Errors
/// The text says what is wrong.
pub(super) fn replicas(query: &str) -> Result<Replicas, &'static str> {
    let (mut word, mut names) = (None, Vec::new());
    for pair in pairs(query) {
        match pair? {
            ("replicas", value) => word = Some(Replicas::of_word(&value).ok_or(REPLICAS)?),
            ("replica", value) if !value.is_empty() => names.push(value.into_owned()),
            _ => return Err(REPLICAS),
        }
    }
    chosen(word, names)
}

fn chosen(word: Option<Replicas>, names: Vec<String>) -> Result<Replicas, &'static str> {
    match (word, names.is_empty()) {
        (Some(_), false) => Err(TWICE),
        (Some(word), true) => Ok(word),
        (None, false) => Ok(Replicas::Named(names)),
        (None, true) => Ok(Replicas::This),
    }
}

fn pairs(query: &str) -> impl Iterator<Item = Result<(&str, Cow<'_, str>), &'static str>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((name, address::from_token(value).ok_or(ENCODING)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_sessions_or_what_is_wrong() {
        let all = SessionQuery { limit: LIMIT_DEFAULT, ..SessionQuery::default() };
        assert_eq!(sessions(""), Ok(all.clone()));
        let text = |text: &str| Some(text.to_owned());
        let expected = SessionQuery {
            replicas: Replicas::All,
            limit: 5,
            after: text("a&b"),
            product: text("p.1"),
            prefix: text("é"),
            ..all.clone()
        };
        assert_eq!(sessions("replicas=all&limit=5&after=a%26b&product=p%2E1&prefix=%C3%A9"), Ok(expected));
        let named = Replicas::Named(vec!["pod-1".to_owned(), "pod-2".to_owned()]);
        assert_eq!(sessions("replica=pod-1&replica=pod-2"), Ok(SessionQuery { replicas: named, ..all.clone() }));
        assert_eq!(sessions("offset=5&replicas=this"), Ok(SessionQuery { offset: 5, ..all }));
        for (query, wrong) in [
            ("offset=-1", NUMBERS),
            ("limit=0", NUMBERS),
            ("limit=1001", NUMBERS),
            ("replicas=some", REPLICAS),
            ("replica=", REPLICAS),
            ("replicas=all&replica=a", TWICE),
            ("replicas=all&offset=1", OFFSET),
            ("device=a", UNKNOWN),
            ("prefix=%f", ENCODING),
        ] {
            assert_eq!(sessions(query), Err(wrong), "{query}");
        }
        assert_eq!(replicas("replicas=all"), Ok(Replicas::All));
        assert_eq!(replicas("limit=1"), Err(REPLICAS));
    }
}
