//! The query of a request to `/api`.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::follow::{FOLLOW_MAX, FollowOrder, TRACE_DEFAULT};
use super::sessions::{Replicas, SessionQuery};
use crate::protocol::address;
use crate::replica::request::{Filter, Selection, Subject};

/// Sessions in one answer, unless `limit` says otherwise.
const LIMIT_DEFAULT: usize = 100;

/// Sessions in one answer at most; some 300 KiB.
const LIMIT_MAX: usize = 1_000;

const NUMBERS: &str = "offset is a number, limit one from 1 to 1000";
const REPLICAS: &str = "replicas is this or all, replica the id or the host name of one";
const TWICE: &str = "replica and replicas do not go together";
const OFFSET: &str = "offset counts the sessions of one replica: with others use after";
const UNKNOWN: &str = "there are offset, limit, after, product, prefix, replica and replicas";
const THIS_OR_ALL: &str = "replicas is this or all";
const TYPE: &str = "no envelope has that type, nor one that ends so";
const ENVELOPES: &str = "there are product, device, type and replicas, each once";
const TRACE: &str = "a trace is that of a device, a product or an address: one of them, and for and replicas besides";
const ADDRESS: &str = "address is an IP address, with a port or without";
const FOR: &str = "for is a time from 1s to 1h, such as 30s, 5m or 1h";
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
    let mut selection = Selection { limit: LIMIT_DEFAULT, ..Selection::default() };
    let (mut offset, mut word, mut names) = (0, None, Vec::new());
    for pair in pairs(query) {
        let (name, value) = pair?;
        match name {
            "offset" => offset = value.parse().map_err(|_| NUMBERS)?,
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                selection.limit = limit.ok_or(NUMBERS)?;
            }
            "after" => selection.after = Some(value.into_owned()),
            "product" => selection.product = Some(value.into_owned()),
            "prefix" => selection.prefix = Some(value.into_owned()),
            "replicas" => word = Some(Replicas::of_word(&value).ok_or(REPLICAS)?),
            "replica" if !value.is_empty() => names.push(value.into_owned()),
            "replica" => return Err(REPLICAS),
            _ => return Err(UNKNOWN),
        }
    }
    let replicas = chosen(word, names)?;
    if offset > 0 && replicas != Replicas::This {
        return Err(OFFSET);
    }
    Ok(SessionQuery { replicas, offset, selection })
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

/// Reads the query of `/api/envelopes`.
///
/// # Errors
/// The text says what is wrong.
pub(super) fn envelopes(query: &str) -> Result<FollowOrder, &'static str> {
    let (mut product, mut device, mut kind, mut replicas) = (None, None, None, None);
    for pair in pairs(query) {
        let (name, value) = pair?;
        match name {
            "product" => once(&mut product, value, ENVELOPES)?,
            "device" => once(&mut device, value, ENVELOPES)?,
            "type" => once(&mut kind, value, ENVELOPES)?,
            "replicas" => once(&mut replicas, value, ENVELOPES)?,
            _ => return Err(ENVELOPES),
        }
    }
    if kind.as_deref().is_some_and(|kind| !Filter::is_type(kind)) {
        return Err(TYPE);
    }
    Ok(FollowOrder {
        filter: Filter::Envelopes { product, device, kind },
        replicas: this_or_all(replicas)?,
        longest: FOLLOW_MAX,
    })
}

/// Reads the query of `/api/trace`.
///
/// # Errors
/// The text says what is wrong.
pub(super) fn trace(query: &str) -> Result<FollowOrder, &'static str> {
    let (mut subject, mut longest, mut replicas) = (None, None, None);
    for pair in pairs(query) {
        let (name, value) = pair?;
        let found = match name {
            "device" => Subject::Device(value.into_owned()),
            "product" => Subject::Product(value.into_owned()),
            "address" => address_of(&value).ok_or(ADDRESS)?,
            "for" => {
                once(&mut longest, value, TRACE)?;
                continue;
            }
            "replicas" => {
                once(&mut replicas, value, TRACE)?;
                continue;
            }
            _ => return Err(TRACE),
        };
        if subject.replace(found).is_some() {
            return Err(TRACE);
        }
    }
    let longest = longest.map_or(Some(TRACE_DEFAULT), |text| duration(&text)).ok_or(FOR)?;
    let subject = subject.ok_or(TRACE)?;
    Ok(FollowOrder { filter: Filter::Trace(subject), replicas: this_or_all(replicas)?, longest })
}

fn once(place: &mut Option<String>, value: Cow<'_, str>, wrong: &'static str) -> Result<(), &'static str> {
    let is_first = place.is_none() && !value.is_empty();
    *place = Some(value.into_owned());
    if is_first { Ok(()) } else { Err(wrong) }
}

fn this_or_all(word: Option<String>) -> Result<Replicas, &'static str> {
    word.map_or(Some(Replicas::All), |word| Replicas::of_word(&word)).ok_or(THIS_OR_ALL)
}

fn address_of(text: &str) -> Option<Subject> {
    let with_port = text.parse::<SocketAddr>().map(|address| (address.ip(), Some(address.port())));
    let (ip, port) = with_port.or_else(|_| text.parse::<IpAddr>().map(|ip| (ip, None))).ok()?;
    // As the listeners write it.
    Some(Subject::Address(ip.to_canonical(), port))
}

fn duration(text: &str) -> Option<Duration> {
    let seconds = [("s", 1), ("m", 60), ("h", 3_600)].into_iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(seconds)
    });
    seconds.map(Duration::from_secs).filter(|duration| !duration.is_zero() && *duration <= FOLLOW_MAX)
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
        let selection = Selection { limit: LIMIT_DEFAULT, ..Selection::default() };
        let all = SessionQuery { selection, ..SessionQuery::default() };
        assert_eq!(sessions(""), Ok(all.clone()));
        let text = |text: &str| Some(text.to_owned());
        let selection = Selection { limit: 5, after: text("a&b"), product: text("p.1"), prefix: text("é") };
        let expected = SessionQuery { replicas: Replicas::All, offset: 0, selection };
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

    #[test]
    fn a_query_says_what_is_followed_or_what_is_wrong() {
        let text = |text: &str| Some(text.to_owned());
        let all = |filter, longest| Ok(FollowOrder { filter, replicas: Replicas::All, longest });
        let trace_of = |subject, seconds| all(Filter::Trace(subject), Duration::from_secs(seconds));
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        for (query, expected) in [
            ("device=device1", trace_of(Subject::Device("device1".to_owned()), 300)),
            ("product=p%2F1&for=30s", trace_of(Subject::Product("p/1".to_owned()), 30)),
            ("address=127.0.0.1&for=1h", trace_of(Subject::Address(ip("127.0.0.1"), None), 3_600)),
            ("address=%5B::1%5D:7&for=2m", trace_of(Subject::Address(ip("::1"), Some(7)), 120)),
            ("address=::ffff:127.0.0.1", trace_of(Subject::Address(ip("127.0.0.1"), None), 300)),
            ("", Err(TRACE)),
            ("device=a&product=b", Err(TRACE)),
            ("device=a&device=b", Err(TRACE)),
            ("device=a&limit=1", Err(TRACE)),
            ("device=a&for=5m&for=5m", Err(TRACE)),
            ("address=localhost", Err(ADDRESS)),
            ("device=a&for=0s", Err(FOR)),
            ("device=a&for=61m", Err(FOR)),
            ("device=a&for=5", Err(FOR)),
            ("device=a&for=99999999999999999999h", Err(FOR)),
            ("device=a&replicas=some", Err(THIS_OR_ALL)),
        ] {
            assert_eq!(trace(query), expected, "{query}");
        }
        let everything = Filter::Envelopes { product: None, device: None, kind: None };
        let (product, device, kind) = (text("product1"), text("device1"), text("properties.report"));
        let filter = Filter::Envelopes { product, device, kind };
        let this = FollowOrder { filter: everything.clone(), replicas: Replicas::This, longest: FOLLOW_MAX };
        for (query, expected) in [
            ("", all(everything, FOLLOW_MAX)),
            ("product=product1&device=device1&type=properties.report", all(filter, FOLLOW_MAX)),
            ("replicas=this", Ok(this)),
            ("type=org.jetlinks.bridge.rejected&type=rejected", Err(ENVELOPES)),
            ("type=report", all(Filter::Envelopes { product: None, device: None, kind: text("report") }, FOLLOW_MAX)),
            ("type=eport", Err(TYPE)),
            ("type=nothing", Err(TYPE)),
            ("device=", Err(ENVELOPES)),
            ("for=5m", Err(ENVELOPES)),
        ] {
            assert_eq!(envelopes(query), expected, "{query}");
        }
    }
}
