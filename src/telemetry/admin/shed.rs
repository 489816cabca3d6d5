//! Shedding as operators ask for it.

use serde::{Deserialize, Serialize};

use super::sessions::{Replicas, Waiting};

/// Sessions that end in a second on each replica, unless the request says otherwise.
pub const RATE_DEFAULT: u32 = 200;

/// Most that it may say.
pub const RATE_MAX: u32 = 10_000;

const FORM: &str =
    r#"the body is no object such as {"to":"mean","replicas":"all"}, {"to":1000,"rate":500} or {"sessions":100}"#;
const AIM: &str = r#"the body has either "sessions", a number above 0, or "to", a number or "mean""#;
const RATE: &str = r#""rate" is a number from 1 to 10000"#;
const REPLICAS: &str = r#""replicas" is "this", "all", or a list of ids or host names of replicas"#;

/// The aim of a shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedAim {
    /// Each replica ends this many sessions.
    Sessions(usize),
    /// Each replica goes down to this many sessions.
    To(usize),
    /// Each replica goes down to what all have on average, and a little more.
    Mean,
}

/// A shed that an operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShedOrder {
    /// The aim.
    pub aim: ShedAim,
    /// Sessions that end in a second on each replica.
    pub rate: u32,
    /// The replicas that shed.
    pub replicas: Replicas,
}

/// The sheds of some replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShedReport {
    /// Of each that answered.
    pub replicas: Vec<ReplicaShed>,
    /// Replicas that did not answer, or are not known.
    pub missing: Vec<String>,
}

/// The last shed of a replica since its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaShed {
    /// Id of the replica.
    pub replica_id: String,
    /// Its sessions, without those that are about to end.
    pub sessions: usize,
    /// `none`, `running`, `waiting`, `done`, `gave_up` or `stopped`.
    pub state: &'static str,
    /// The number that it goes down to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<usize>,
    /// Sessions that end in a second.
    pub rate: u32,
    /// Sessions that were ended.
    pub ended: usize,
    /// Sessions that are still to end, as far as it is known.
    pub left: usize,
}

/// Why there is no shed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShedRefusal {
    /// Other replicas are meant, and none is heard.
    #[error("replicas do not hear each other: nats.servers is not set")]
    Alone,
    /// Too many requests wait for answers of other replicas.
    #[error("too many requests wait for answers of other replicas")]
    Busy,
    /// The process ends.
    #[error("the replica is ending")]
    Draining,
}

/// The sheds of this replica, and of others.
pub trait Sheds: Send + Sync {
    /// Begins a shed on these replicas; each takes the place of one that is under way there.
    fn begin(&self, order: ShedOrder) -> Waiting<'_, Result<ShedReport, ShedRefusal>>;

    /// Where the sheds of these replicas stand.
    fn report(&self, replicas: Replicas) -> Waiting<'_, Result<ShedReport, ShedRefusal>>;

    /// Stops the sheds of these replicas.
    fn stop(&self, replicas: Replicas) -> Waiting<'_, Result<ShedReport, ShedRefusal>>;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    sessions: Option<usize>,
    to: Option<WordOr<usize>>,
    rate: Option<u32>,
    replicas: Option<WordOr<Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WordOr<T> {
    Value(T),
    Word(String),
}

impl ShedOrder {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// The text says what is wrong.
    pub(super) fn read(body: &[u8]) -> Result<Self, &'static str> {
        let Body { sessions, to, rate, replicas } = serde_json::from_slice(body).map_err(|_| FORM)?;
        let aim = match (sessions, to) {
            (Some(sessions), None) if sessions > 0 => ShedAim::Sessions(sessions),
            (None, Some(WordOr::Value(to))) => ShedAim::To(to),
            (None, Some(WordOr::Word(word))) if word == "mean" => ShedAim::Mean,
            _ => return Err(AIM),
        };
        let rate = rate.unwrap_or(RATE_DEFAULT);
        if !(1..=RATE_MAX).contains(&rate) {
            return Err(RATE);
        }
        let replicas = match replicas {
            None => Replicas::This,
            Some(WordOr::Word(word)) => Replicas::of_word(&word).ok_or(REPLICAS)?,
            Some(WordOr::Value(names)) if !names.is_empty() => Replicas::Named(names),
            Some(WordOr::Value(_)) => return Err(REPLICAS),
        };
        Ok(Self { aim, rate, replicas })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_is_wanted_or_what_is_wrong() {
        let order = |aim, rate, replicas| Ok(ShedOrder { aim, rate, replicas });
        let names = |names: &[&str]| Replicas::Named(names.iter().map(|&name| name.to_owned()).collect());
        for (body, expected) in [
            (r#"{"sessions":5}"#, order(ShedAim::Sessions(5), RATE_DEFAULT, Replicas::This)),
            (r#"{"to":0,"rate":10000}"#, order(ShedAim::To(0), 10_000, Replicas::This)),
            (r#"{"to":"mean","replicas":"all"}"#, order(ShedAim::Mean, RATE_DEFAULT, Replicas::All)),
            (r#"{"to":7,"replicas":["a","b"]}"#, order(ShedAim::To(7), RATE_DEFAULT, names(&["a", "b"]))),
            (r#"{"to":7,"replicas":"this"}"#, order(ShedAim::To(7), RATE_DEFAULT, Replicas::This)),
            ("", Err(FORM)),
            ("[]", Err(FORM)),
            (r#"{"to":7,"force":true}"#, Err(FORM)),
            (r#"{"to":-1}"#, Err(FORM)),
            ("{}", Err(AIM)),
            (r#"{"sessions":0}"#, Err(AIM)),
            (r#"{"to":"median"}"#, Err(AIM)),
            (r#"{"to":1,"sessions":1}"#, Err(AIM)),
            (r#"{"to":1,"rate":0}"#, Err(RATE)),
            (r#"{"to":1,"rate":10001}"#, Err(RATE)),
            (r#"{"to":1,"replicas":"some"}"#, Err(REPLICAS)),
            (r#"{"to":1,"replicas":[]}"#, Err(REPLICAS)),
        ] {
            assert_eq!(ShedOrder::read(body.as_bytes()), expected, "{body}");
        }
    }
}
