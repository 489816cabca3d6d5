//! Requests of an operator that reach several replicas: how many sessions each has, which ones, to end one or shed some of
//! them, and to follow what happens on them.
//!
//! 1. The replica that an operator asks publishes [`Body::Ask`] to all, with a unique id and the names of
//!    those that are meant. Each of them answers once, with [`Body::Answer`].
//! 2. Every replica says [`Body::Here`] every few seconds, and at once to one that it has not heard of: so whoever asks knows
//!    how many answers to wait for, and which replicas do not answer.
//! 3. What an operator follows on others comes as [`Body::Lines`] to the replica that asked. It says every
//!    [`RENEWAL`] that it still wants them; [`LEASE`] after the last time, or told so, the others stop.
//! 4. [`Exchange`] decides what follows from a message, without I/O. `OperatorRequests` of the queue carries messages.
//!
//! Messages are signed as claims are. One that is recorded and said again has no effect: a request counts for
//! [`REQUEST_AGE_MAX_US`], by the clock that replicas share, and once on each replica; an answer counts for its request alone.

mod follow;
mod members;
mod text;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub use self::follow::{
    Batch, FOLLOWED_BYTES_MAX, FOLLOWED_EVERY, FOLLOWED_PER_BATCH, Filter, Follow, FollowedLines, LEASE, RENEWAL,
    Repetitions, Subject,
};
pub use self::members::Members;
use super::shed::{ShedPlan, ShedStatus};

/// Age above which a request is ignored, us. The clocks of two replicas may differ by as much.
pub const REQUEST_AGE_MAX_US: u64 = 10_000_000;

/// Requests that a replica remembers within that time; more are ignored.
const RECENT_MAX: usize = 4_096;

/// Requests of operators that may wait for answers at a time.
pub const ASKED_MAX: usize = 16;

/// Something that an operator wants of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Its state.
    State,
    /// Some of its sessions.
    Sessions(Selection),
    /// That it ends the session of this device.
    End(String),
    /// That it sheds sessions.
    Shed(ShedPlan),
    /// That it sheds no more.
    StopShedding,
    /// That it tells what happens, for a while.
    Follow(Follow),
    /// That it tells no more for the follower with that id.
    StopFollowing(String),
}

/// Sessions that are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Only devices behind this one, in the order of device ids.
    pub after: Option<String>,
    /// As many at most.
    pub limit: usize,
    /// Only devices of this product.
    pub product: Option<String>,
    /// Only devices whose id begins so.
    pub prefix: Option<String>,
}

impl Selection {
    /// Whether the filters let a device pass.
    pub fn matches(&self, device: &str, product: &str) -> bool {
        self.product.as_deref().is_none_or(|wanted| wanted == product)
            && self.prefix.as_deref().is_none_or(|prefix| device.starts_with(prefix))
    }
}

/// Answer of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To everything that has no answer of its own: the state afterwards.
    State(ReplicaState),
    /// To [`Request::Sessions`].
    Sessions(SessionPart),
    /// To [`Request::Follow`]: whether it is done. It is not where as many follow as may.
    Follows(bool),
    /// To [`Request::End`]: whether there was a session.
    Ended(bool),
}

/// State of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaState {
    /// Sessions, without those that are about to end.
    pub sessions: usize,
    /// Whether the replica is ending.
    pub draining: bool,
    /// The last shed since its start.
    pub shed: Option<ShedStatus>,
}

/// Some sessions of one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionPart {
    /// How many pass the filters.
    pub total: usize,
    /// Those that were asked for, in the order of device ids.
    pub sessions: Vec<SessionRow>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// The device.
    pub device: String,
    /// Its product.
    pub product: String,
    /// ULID of the session.
    pub session: String,
    /// Address of the client.
    pub peer: String,
    /// When it connected, ms since 1970.
    pub connected_ms: u64,
    /// The worker that serves it.
    pub worker: usize,
}

/// One message between replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Id of the replica that speaks.
    pub replica: String,
    /// When it was said, by the clock that replicas share, us.
    pub said: u64,
    /// Whether the replica is ending, so that nobody need wait for its answers.
    pub draining: bool,
    /// Whether the replica has more sessions than it is to go down to, or had them recently.
    pub sheds: bool,
    /// The rest.
    pub body: Body,
}

/// Content of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// The replica is there.
    Here,
    /// A request.
    Ask {
        /// Id of the request.
        id: String,
        /// Names of the replicas that are meant; none: all.
        to: Vec<String>,
        /// The request.
        request: Request,
    },
    /// An answer.
    Answer {
        /// Id of the request.
        id: String,
        /// The answer.
        answer: Answer,
    },
    /// Lines of what is followed here, for the replica that asked.
    Lines {
        /// Id of the follower.
        id: String,
        /// Number of the batch: each is higher than the one before.
        number: u64,
        /// The lines.
        batch: Batch,
    },
}

impl Body {
    /// Leaves the second half of the sessions out, for a server that takes no message as large; false when there is one at
    /// most.
    pub fn halve(&mut self) -> bool {
        let Body::Answer { answer: Answer::Sessions(part), .. } = self else { return false };
        let is_shorter = part.sessions.len() > 1;
        if is_shorter {
            part.sessions.truncate(part.sessions.len() / 2);
            part.has_more = true;
        }
        is_shorter
    }
}

/// A request on its way to other replicas.
#[derive(Debug)]
pub struct Asked {
    /// Names of the replicas that are meant; none: all.
    pub to: Vec<String>,
    /// The request.
    pub request: Request,
    /// Takes the answers.
    pub answered: oneshot::Sender<Answers>,
}

/// Answers of other replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answers {
    /// By replica.
    pub by_replica: Vec<(String, Answer)>,
    /// Ids of replicas that were heard of within the last minute and did not answer.
    pub missing: Vec<String>,
}

/// The way of requests to other replicas. Full with [`ASKED_MAX`] that wait.
pub type RequestSender = mpsc::Sender<Asked>;

/// This replica, as it answers.
pub trait Respond: Send + Sync {
    /// Carries out a request of an operator.
    fn respond(&self, request: &Request) -> Answer;

    /// Begins to follow what happens on this replica; `None`: as many follow as may. Asked once for each id, until that
    /// has ended.
    fn follow(&self, filter: &Filter) -> Option<Box<dyn FollowedLines>>;

    /// Takes lines of another replica for the follower with that id, which may have ended.
    fn take_lines(&self, id: &str, replica: &str, number: u64, batch: Batch);

    /// Whether the replica is ending.
    fn is_draining(&self) -> bool;

    /// Whether the replica sheds, so that devices may come to others.
    fn sheds(&self) -> bool;

    /// Notes whether another replica sheds.
    fn note_others(&self, shed: bool);

    /// The clock that replicas share, us, and one that never goes back, us.
    fn clocks(&self) -> (u64, u64);
}

/// Whether a replica with that id is meant by a name: its id, or the name of its host, which the id begins with.
pub fn is_named(id: &str, name: &str) -> bool {
    let is_of_host = |rest: &str| {
        let digits = rest.strip_prefix('-').unwrap_or_default();
        digits.len() == 10 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    id == name || id.strip_prefix(name).is_some_and(is_of_host)
}

/// An action that follows from a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reaction {
    /// Say [`Body::Here`]: the other one is new.
    SayHere,
    /// Carry out that request, and answer it.
    Respond(String, Request),
    /// Hand that answer to whoever asked.
    HandOut(String, String, Answer),
    /// Hand those lines to the follower with that id: replica, number and lines.
    Show(String, String, u64, Batch),
}

/// Memory of a replica of messages.
#[derive(Debug)]
pub struct Exchange {
    replica: String,
    /// Replicas that were heard of.
    pub members: Members,
    /// Ids of recent requests, and when these were sent.
    recent: HashMap<String, u64>,
}

impl Exchange {
    /// Of the replica with that id.
    pub fn new(replica: &str) -> Self {
        Self { replica: replica.to_owned(), members: Members::default(), recent: HashMap::new() }
    }

    /// Applies a message that came at `time_us` of the clock that replicas share. Its own come back, and are ignored.
    pub fn handle(&mut self, message: Message, time_us: u64, now_us: u64) -> Option<Reaction> {
        let Message { replica, said, draining, sheds, body } = message;
        if replica == self.replica || said.abs_diff(time_us) > REQUEST_AGE_MAX_US {
            return None;
        }
        let is_new = if draining {
            self.members.forget(&replica);
            false
        } else {
            self.members.hear(&replica, sheds, now_us)
        };
        match body {
            Body::Here => is_new.then_some(Reaction::SayHere),
            Body::Ask { to, .. } if !to.is_empty() && !to.iter().any(|name| is_named(&self.replica, name)) => None,
            Body::Ask { id, request, .. } => {
                self.is_first(&id, said, time_us).then_some(Reaction::Respond(id, request))
            }
            Body::Answer { id, answer } => Some(Reaction::HandOut(id, replica, answer)),
            Body::Lines { id, number, batch } => Some(Reaction::Show(id, replica, number, batch)),
        }
    }

    fn is_first(&mut self, id: &str, said: u64, time_us: u64) -> bool {
        self.recent.retain(|_, said| said.abs_diff(time_us) <= REQUEST_AGE_MAX_US);
        if self.recent.len() >= RECENT_MAX {
            return false;
        }
        self.recent.insert(id.to_owned(), said).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: u64 = 1_700_000_000_000_000;

    fn ask(id: &str, to: &[&str], said: u64) -> Message {
        let to = to.iter().map(|&name| name.to_owned()).collect();
        let body = Body::Ask { id: id.to_owned(), to, request: Request::State };
        Message { replica: "host2-00000000ff".to_owned(), said, draining: false, sheds: false, body }
    }

    #[test]
    fn a_request_counts_once_for_a_short_time_and_for_those_who_are_meant() {
        let mut exchange = Exchange::new("host1-00000000aa");
        let mut handle = |message| exchange.handle(message, TIME, 0);
        let responds = |id: &str| Some(Reaction::Respond(id.to_owned(), Request::State));
        assert_eq!(handle(ask("a", &[], TIME)), responds("a"));
        assert_eq!(handle(ask("a", &[], TIME)), None, "said again");
        assert_eq!(handle(ask("b", &[], TIME - REQUEST_AGE_MAX_US - 1)), None, "said long ago");
        assert_eq!(handle(ask("c", &[], TIME + REQUEST_AGE_MAX_US + 1)), None, "said in the future");
        assert_eq!(handle(ask("d", &["host2", "host3-00000000aa"], TIME)), None);
        assert_eq!(handle(ask("e", &["host2", "host1-00000000aa"], TIME)), responds("e"));
        assert_eq!(handle(ask("f", &["host1"], TIME)), responds("f"));
        assert_eq!(handle(Message { replica: "host1-00000000aa".to_owned(), ..ask("g", &[], TIME) }), None);
    }

    #[test]
    fn requests_that_are_remembered_are_bounded_and_forgotten() {
        let mut exchange = Exchange::new("host1-00000000aa");
        let mut taken = |numbers: std::ops::Range<usize>, time: u64| {
            numbers.filter(|number| exchange.handle(ask(&number.to_string(), &[], time), time, 0).is_some()).count()
        };
        assert_eq!(taken(0..RECENT_MAX + 5, TIME), RECENT_MAX);
        assert_eq!(taken(0..RECENT_MAX, TIME + 2 * REQUEST_AGE_MAX_US), RECENT_MAX);
    }

    #[test]
    fn a_replica_that_is_new_is_told_once_and_one_that_ends_is_not_waited_for() {
        let mut exchange = Exchange::new("host1-00000000aa");
        let here = |draining| Message { draining, body: Body::Here, ..ask("", &[], TIME) };
        assert_eq!(exchange.handle(here(false), TIME, 0), Some(Reaction::SayHere));
        assert_eq!(exchange.handle(here(false), TIME, 0), None);
        assert_eq!(exchange.members.live(0), ["host2-00000000ff"]);
        assert_eq!(exchange.handle(here(true), TIME, 0), None);
        assert!(exchange.members.live(0).is_empty());
        let answer = Answer::State(ReplicaState { sessions: 0, draining: false, shed: None });
        let body = Body::Answer { id: "a".to_owned(), answer: answer.clone() };
        let handed_out = Reaction::HandOut("a".to_owned(), "host2-00000000ff".to_owned(), answer);
        assert_eq!(exchange.handle(Message { body, ..here(false) }, TIME, 0), Some(handed_out));
        assert_eq!(exchange.members.live(0), ["host2-00000000ff"], "whoever answers is there");
    }
}
