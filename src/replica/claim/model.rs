//! Replicas that tell each other about one device, each link between them as late as it likes.
//!
//! A link holds claims back as a socket does, and loses them or not. What the real replicas do with a decision is done here in
//! the same words, and everything that happens takes a moment of its own, in an order that is drawn.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{Claim, ClaimClock, ClaimKind, Decision, OwnSession, PATIENCE_US, decide};
use crate::protocol::limit::Now;
use crate::protocol::random::Random;

const START_MS: u64 = 1_700_000_000_000;

/// Time of a claim on a link that does not stand still, and of everything else, us.
const STEP_US: u64 = 1_000;

/// Time between two things that the device does, us: more than claims take that are not held back.
const PAUSE_US: u64 = 200_000;

/// How long a link stands still, us.
const OUTAGE_US: u64 = 7_000_000;

/// Something that the device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// It connects to that replica.
    Connect(usize),
    /// It leaves that replica.
    Leave(usize),
}

#[derive(Debug)]
struct Session {
    name: String,
    replica: usize,
    since: u64,
    /// When it ended, and whether it gave way to another one.
    ended: Option<(u64, bool)>,
    /// The sessions that its replica had heard of when it began.
    heard: Vec<String>,
}

#[derive(Debug, Default)]
struct Replica {
    clock: ClaimClock,
    /// How far its system clock is ahead of the earliest one, ms.
    ahead_ms: u64,
    holds: Option<usize>,
    heard: Vec<String>,
    /// Claims on their way to the server.
    outgoing: VecDeque<Rc<Claim>>,
    /// Claims on their way from the server.
    incoming: VecDeque<Rc<Claim>>,
}

/// One of the links of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    To(usize),
    From(usize),
}

/// How claims fare.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// The device does things before the claims about those before are heard.
    is_crowded: bool,
    /// Claims that wait on a link that stands still are lost, and all is claimed anew.
    is_lossy: bool,
}

/// An event, for the message of a failure.
#[derive(Debug)]
#[expect(dead_code, reason = "shown by Debug alone")]
enum Event {
    Did(Act),
    Heard(usize, Rc<Claim>),
    Back(Link),
}

struct World {
    now_us: u64,
    replicas: Vec<Replica>,
    sessions: Vec<Session>,
    held_back: Vec<Link>,
    random: Random,
    story: Vec<(u64, Event)>,
}

impl World {
    fn new(ahead_ms: &[u64], seed: u128) -> Self {
        let replicas = ahead_ms.iter().map(|&ahead_ms| Replica { ahead_ms, ..Replica::default() }).collect();
        let random = Random::new(seed);
        Self { now_us: 0, replicas, sessions: Vec::new(), held_back: Vec::new(), random, story: Vec::new() }
    }

    /// A number below that one.
    fn draw(&mut self, below: usize) -> usize {
        usize::try_from(self.random.draw()).expect("as many bits") % below
    }

    fn now(&self, replica: usize) -> Now {
        // Each counts from a start of its own.
        let us = self.now_us + replica as u64 * 777_777;
        Now { unix_ms: START_MS + self.replicas[replica].ahead_ms + self.now_us / 1000, us }
    }

    fn say(&mut self, replica: usize, kind: ClaimKind, session: &str, question: Option<super::Question>) {
        let now = self.now(replica);
        let said = self.replicas[replica].clock.now(now);
        let since = match kind {
            ClaimKind::Begun | ClaimKind::Held | ClaimKind::Lives => {
                let own = self.replicas[replica].holds.expect("it says so of what it holds");
                self.sessions[own].since
            }
            _ => 0,
        };
        let name = format!("r{replica}").into();
        let device = if kind == ClaimKind::Time { "" } else { "device1" }.into();
        let claim = Claim { kind, device, session: session.into(), replica: name, since, said, question };
        assert_eq!(Claim::decode(claim.encode(None).as_bytes(), None).as_ref(), Ok(&claim));
        self.replicas[replica].outgoing.push_back(Rc::new(claim));
    }

    fn end(&mut self, session: usize, gave_way: bool) {
        let session = &mut self.sessions[session];
        session.ended = Some((self.now_us, gave_way));
        self.replicas[session.replica].holds = None;
    }

    fn act(&mut self, act: Act) {
        self.now_us += STEP_US;
        self.story.push((self.now_us, Event::Did(act)));
        match act {
            Act::Connect(at) => {
                if let Some(older) = self.replicas[at].holds {
                    self.end(older, true);
                }
                let now = self.now(at);
                let replica = &mut self.replicas[at];
                let (since, heard) = (replica.clock.begin(now), replica.heard.clone());
                // Names that sort against the time: they decide nothing.
                let name = format!("s{:02}", 99 - self.sessions.len());
                replica.holds = Some(self.sessions.len());
                self.sessions.push(Session { name: name.clone(), replica: at, since, ended: None, heard });
                self.say(at, ClaimKind::Begun, &name, None);
            }
            Act::Leave(at) => {
                if let Some(own) = self.replicas[at].holds {
                    self.end(own, false);
                }
            }
        }
    }

    /// The replica loses the server and has it back: nothing is heard twice, and all that is there is claimed.
    fn claim_all(&mut self, at: usize) {
        self.say(at, ClaimKind::Time, "", None);
        if let Some(own) = self.replicas[at].holds {
            let name = self.sessions[own].name.clone();
            self.say(at, ClaimKind::Held, &name, None);
        }
    }

    fn hear(&mut self, at: usize, claim: &Rc<Claim>) {
        self.story.push((self.now_us, Event::Heard(at, claim.clone())));
        let now = self.now(at);
        let replica = &mut self.replicas[at];
        if claim.kind == ClaimKind::Time && replica.clock.is_ahead_of(claim.said, now) {
            return self.say(at, ClaimKind::Time, "", None);
        }
        replica.clock.hear(claim.said, now);
        replica.heard.push(claim.session.to_string());
        let Some(own) = replica.holds else { return };
        let name = self.sessions[own].name.clone();
        let holding = OwnSession { session: &name, since: self.sessions[own].since };
        match decide(holding, claim, now.us) {
            None | Some(Decision::Won | Decision::Announce) => {}
            Some(Decision::Insist) => self.say(at, ClaimKind::Held, &name, None),
            Some(Decision::Ask(question)) => self.say(at, ClaimKind::Asked, &claim.session, Some(question)),
            Some(Decision::Answer(question)) => self.say(at, ClaimKind::Lives, &name, Some(question)),
            Some(Decision::Yield) => {
                let winner = self.sessions.iter().find(|session| *session.name == *claim.session);
                let ended = winner.expect("only sessions are talked about").ended;
                let is_fresh = ended.is_none_or(|(at_us, _)| at_us + PATIENCE_US >= self.now_us);
                assert!(is_fresh, "{name} gave way to one that had ended: {:?}", self.story);
                self.end(own, true);
                self.say(at, ClaimKind::Yielded, &claim.session, None);
            }
        }
    }

    /// Moves one claim along a link that is not held back, of those that wait; false when none does.
    fn step(&mut self) -> bool {
        let links = (0..self.replicas.len()).flat_map(|at| [Link::To(at), Link::From(at)]);
        let moving: Vec<Link> = links
            .filter(|link| !self.held_back.contains(link))
            .filter(|link| match *link {
                Link::To(at) => !self.replicas[at].outgoing.is_empty(),
                Link::From(at) => !self.replicas[at].incoming.is_empty(),
            })
            .collect();
        if moving.is_empty() {
            return false;
        }
        self.now_us += STEP_US;
        match moving[self.draw(moving.len())] {
            Link::To(at) => {
                let claim = self.replicas[at].outgoing.pop_front().expect("one waits");
                let others = self.replicas.iter_mut().enumerate().filter(|(other, _)| *other != at);
                others.for_each(|(_, other)| other.incoming.push_back(claim.clone()));
            }
            Link::From(at) => {
                let claim = self.replicas[at].incoming.pop_front().expect("one waits");
                self.hear(at, &claim);
            }
        }
        true
    }

    fn run_dry(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 10_000, "it comes to no end: {:?}", self.story);
        }
    }

    /// Plays the acts of the device, while some links stand still from some moment on; then those come back one after the other.
    fn play(&mut self, acts: &[Act], held_back: &[Link], way: Way) {
        let begin = if way.is_crowded { self.draw(acts.len()) } else { 0 };
        for (number, &act) in acts.iter().enumerate() {
            if number == begin {
                self.held_back = held_back.to_vec();
            }
            self.act(act);
            if way.is_crowded {
                // Some of what is on its way comes before the device does something more.
                for _ in 0..self.draw(8) {
                    self.step();
                }
            } else {
                self.run_dry();
                self.now_us += PAUSE_US;
            }
        }
        while !self.held_back.is_empty() {
            self.run_dry();
            self.now_us += OUTAGE_US;
            let next = self.draw(self.held_back.len());
            let back = self.held_back.swap_remove(next);
            self.story.push((self.now_us, Event::Back(back)));
            if way.is_lossy {
                let (Link::To(at) | Link::From(at)) = back;
                self.replicas[at].outgoing.clear();
                self.replicas[at].incoming.clear();
                self.claim_all(at);
            }
        }
        self.run_dry();
    }

    fn assert_one_is_left(&self, case: &str, order_is_known: bool) {
        let living: Vec<&str> = self.replicas.iter().filter_map(|it| Some(&*self.sessions[it.holds?].name)).collect();
        assert!(living.len() <= 1, "{case}: {living:?} live: {:?}", self.story);
        let newest = self.sessions.last().expect("the device has connected");
        let left = matches!(newest.ended, Some((_, false)));
        let known = |older: &Session| newest.heard.contains(&older.name) || older.replica == newest.replica;
        let all_known = self.sessions[..self.sessions.len() - 1].iter().all(known);
        if !left && (order_is_known || all_known) {
            assert_eq!(living, [&*newest.name], "{case}: the newest is to live: {:?}", self.story);
        }
        // A session may give way to one that lives, and the device leave that one a moment later.
        if !self.sessions.iter().any(|session| matches!(session.ended, Some((_, false)))) {
            assert_eq!(living.len(), 1, "{case}: none lives: {:?}", self.story);
        }
    }
}

/// Everything that a device can do in so many steps, on so many replicas.
fn stories(replicas: usize, length: usize) -> Vec<Vec<Act>> {
    let acts: Vec<Act> = (0..replicas).flat_map(|at| [Act::Connect(at), Act::Leave(at)]).collect();
    let mut all = vec![Vec::new()];
    for _ in 0..length {
        all = all
            .into_iter()
            .flat_map(|story| acts.iter().map(move |&act| [story.clone(), vec![act]].concat()))
            .collect();
    }
    all.retain(|story| matches!(story[0], Act::Connect(_)));
    all
}

/// Every set of links that may stand still.
fn outages(replicas: usize) -> Vec<Vec<Link>> {
    let links: Vec<Link> = (0..replicas).flat_map(|at| [Link::To(at), Link::From(at)]).collect();
    let chosen = |set: usize| links.iter().enumerate().filter(move |(bit, _)| set >> bit & 1 == 1);
    (0..1_usize << links.len()).map(|set| chosen(set).map(|(_, &link)| link).collect()).collect()
}

fn play_all(ahead_ms: &[u64], length: usize, has_met: bool, seeds: u128) {
    let clocks_agree = ahead_ms.iter().all(|&ms| ms == ahead_ms[0]);
    for story in stories(ahead_ms.len(), length) {
        for held_back in outages(ahead_ms.len()) {
            for seed in 0..seeds {
                for (is_crowded, is_lossy) in [(false, false), (true, false), (false, true), (true, true)] {
                    let mut world = World::new(ahead_ms, seed);
                    if has_met {
                        (0..ahead_ms.len()).for_each(|at| world.claim_all(at));
                        world.run_dry();
                        world.now_us += PAUSE_US;
                    }
                    world.play(&story, &held_back, Way { is_crowded, is_lossy });
                    let case = format!(
                        "{story:?}, {held_back:?} held back, clocks {ahead_ms:?}, seed {seed}, crowded {is_crowded}, lossy {is_lossy}"
                    );
                    // What follows too closely for claims to be heard between is told apart by clocks that agree alone.
                    let order_is_known = clocks_agree || has_met && !is_crowded;
                    world.assert_one_is_left(&case, order_is_known);
                }
            }
        }
    }
}

#[test]
fn of_two_replicas_one_session_is_left_the_newest_and_none_gave_way_to_one_that_had_ended() {
    play_all(&[0, 0], 4, false, 2);
}

#[test]
fn of_three_replicas_one_session_is_left_the_newest_and_none_gave_way_to_one_that_had_ended() {
    play_all(&[0, 0, 0], 3, false, 1);
}

#[test]
fn clocks_that_disagree_decide_nothing_once_the_replicas_have_met() {
    play_all(&[0, 60_000], 4, true, 1);
    play_all(&[60_000, 0, 1_000], 3, true, 1);
}

#[test]
fn clocks_that_disagree_decide_nothing_about_what_was_heard() {
    play_all(&[60_000, 0], 4, false, 1);
    play_all(&[0, 60_000, 3_000], 3, false, 1);
}
