//! Presence of a device that moves from one replica to another, as a consumer sees it who follows docs/wire.md.
//!
//! Each replica may lose its queue once. Everything that can happen is played in an order that is drawn, with real
//! sessions; claims are as late as they like, but not later than [`SETTLED_US`].

use std::collections::VecDeque;

use crate::protocol::random::Random;
use crate::replica::claim::{Claim, ClaimKind, Decision, OwnSession, decide};
use crate::session::fake::{field, parse};
use crate::session::mqtt::fake::Rig;
use crate::session::mqtt::{Ending, SETTLED_US};

/// The session that begins first, and the one that the device has afterwards.
const OLDER: usize = 0;
const NEWER: usize = 1;

/// Names that sort against the time: they decide nothing.
const NAMES: [&str; 2] = ["01JDA0Z6W3000000000000000B", "01JDA0Z6W3000000000000000A"];

const PLAYS: u64 = 30_000;
const STEPS: usize = 16;

/// A session, and the queue as its replica reaches it.
struct Side {
    rig: Rig,
    /// Copies that the queue has stored or that were lost, and those of which the replica knows it.
    stored: usize,
    known: usize,
    was_cut: bool,
}

/// Something that happens, to the session on one side or the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Connect,
    Leave(usize),
    /// The queue stores the next copy.
    Store(usize),
    /// The replica learns of it.
    Learn(usize),
    /// The connection is lost with all that was on its way.
    Cut(usize),
    /// The connection is lost, and what was on its way is stored all the same.
    Hang(usize),
    Back(usize),
    /// The newer session says that it lives.
    Answer,
    Yield,
    /// The other side hears that presence was late.
    Hear(usize),
}

/// A consumer of the stream: the session of the last `online`, and whether that is there.
#[derive(Debug, Default)]
struct Consumer {
    session: String,
    is_online: bool,
}

struct Play {
    sides: [Option<Side>; 2],
    /// To each side.
    claims: [VecDeque<Claim>; 2],
    is_answered: bool,
    consumer: Consumer,
    story: Vec<Step>,
}

impl Play {
    fn new() -> Self {
        let older = Side { rig: Rig::named(NAMES[OLDER]), stored: 0, known: 0, was_cut: false };
        let (claims, consumer) = (Default::default(), Consumer::default());
        Self { sides: [Some(older), None], claims, is_answered: false, consumer, story: Vec::new() }
    }

    fn side(&self, at: usize) -> Option<&Side> {
        self.sides[at].as_ref()
    }

    fn lives(&self, at: usize) -> bool {
        self.side(at).is_some_and(|side| side.rig.ending().is_none())
    }

    /// Whether replicas have something to settle, which takes less than the time of an outage.
    fn is_unsettled(&self) -> bool {
        self.is_answered || self.claims.iter().any(|claims| !claims.is_empty())
    }

    fn is_possible(&self, step: Step) -> bool {
        let with = |at: usize, holds: fn(&Side) -> bool| self.side(at).is_some_and(holds);
        match step {
            Step::Connect => self.side(NEWER).is_none(),
            Step::Leave(at) => self.lives(at),
            Step::Store(at) => with(at, |side| side.stored < side.rig.world.uplink.published.len()),
            Step::Learn(at) => with(at, |side| side.known < side.stored),
            Step::Cut(at) | Step::Hang(at) => !self.is_unsettled() && with(at, |side| !side.was_cut),
            Step::Back(at) => with(at, |side| side.rig.world.uplink.refuses),
            Step::Answer => !self.is_answered && self.lives(OLDER) && self.lives(NEWER),
            Step::Yield => self.is_answered && self.lives(OLDER),
            Step::Hear(at) => !self.claims[at].is_empty() && self.side(at).is_some(),
        }
    }

    fn take(&mut self, step: Step) {
        self.story.push(step);
        match step {
            Step::Connect => {
                // A session that began later by more than `online` takes.
                self.pass(OLDER, 1_200_000);
                self.sides[NEWER] = Some(Side { rig: Rig::named(NAMES[NEWER]), stored: 0, known: 0, was_cut: false });
            }
            Step::Leave(at) => self.end(at, Ending::Disconnected),
            Step::Store(at) => {
                let Some(side) = &mut self.sides[at] else { return };
                let envelope = parse(&side.rig.world.uplink.published[side.stored].1.payload);
                side.stored += 1;
                self.consumer.read(&field(&envelope, "type"), field(&envelope, "sessionid"));
            }
            Step::Learn(at) => {
                let Some(side) = &mut self.sides[at] else { return };
                side.known += 1;
                side.rig.receipt(side.known - 1, true);
            }
            Step::Cut(at) | Step::Hang(at) => {
                self.pass(at, SETTLED_US + 1);
                let Some(side) = &mut self.sides[at] else { return };
                side.was_cut = true;
                side.rig.world.uplink.refuses = true;
                side.known = side.rig.world.uplink.published.len();
                if step == Step::Cut(at) {
                    side.stored = side.known;
                }
            }
            Step::Back(at) => {
                let Some(side) = &mut self.sides[at] else { return };
                side.rig.world.uplink.refuses = false;
                side.rig.act(|session, ctx| session.resend(ctx));
            }
            Step::Answer => {
                self.is_answered = true;
                if let Some(side) = &mut self.sides[NEWER] {
                    side.rig.session.replaces_another();
                }
            }
            Step::Yield => {
                self.is_answered = false;
                self.end(OLDER, Ending::TakenOver);
            }
            Step::Hear(at) => {
                let claim = self.claims[at].pop_front().expect("it is possible");
                let own = OwnSession { session: NAMES[at], since: since(at) };
                if self.lives(at)
                    && decide(own, &claim, 0) == Some(Decision::Announce)
                    && let Some(side) = &mut self.sides[at]
                {
                    side.rig.act(|session, ctx| session.announce("127.0.0.1:40001", ctx));
                }
            }
        }
        for at in [OLDER, NEWER] {
            self.tell_late(at);
        }
    }

    fn pass(&mut self, at: usize, us: u64) {
        if let Some(side) = &mut self.sides[at] {
            side.rig.world.now.us += us;
        }
    }

    fn end(&mut self, at: usize, ending: Ending) {
        if let Some(side) = &mut self.sides[at] {
            side.rig.act(|session, ctx| session.end(ending, ctx));
        }
    }

    fn tell_late(&mut self, at: usize) {
        let Some(side) = &mut self.sides[at] else { return };
        if side.rig.session.take_late_presence().is_some() {
            let since = if side.rig.ending().is_none() { since(at) } else { 0 };
            let (device, session, replica) = ("device1".into(), NAMES[at].into(), "".into());
            let claim = Claim { kind: ClaimKind::Late, device, session, replica, since, said: 0, question: None };
            self.claims[1 - at].push_back(claim);
        }
    }

    /// Lets everything come to its end.
    fn settle(&mut self) {
        let last = [OLDER, NEWER]
            .into_iter()
            .flat_map(|at| [Step::Back(at), Step::Store(at), Step::Learn(at), Step::Hear(at)]);
        let last: Vec<Step> = last.chain([Step::Answer, Step::Yield]).collect();
        while let Some(&step) = last.iter().find(|&&step| self.is_possible(step)) {
            self.take(step);
            assert!(self.story.len() < 1_000, "it comes to no end: {:?}", self.story);
        }
    }
}

/// When each began, by the clock of the claims.
fn since(at: usize) -> u64 {
    [100, 200][at]
}

impl Consumer {
    /// The rule of docs/wire.md.
    fn read(&mut self, kind: &str, session: String) {
        match kind {
            "org.jetlinks.device.online" => *self = Self { session, is_online: true },
            "org.jetlinks.device.offline" if self.session == session => self.is_online = false,
            _ => {}
        }
    }
}

#[test]
fn whatever_the_order_the_rule_names_the_session_that_lives_or_none() {
    let all: Vec<Step> = [OLDER, NEWER]
        .into_iter()
        .flat_map(|at| {
            let queue = [Step::Store(at), Step::Learn(at), Step::Cut(at), Step::Hang(at), Step::Back(at)];
            queue.into_iter().chain([Step::Leave(at), Step::Hear(at)])
        })
        .chain([Step::Connect, Step::Answer, Step::Yield])
        .collect();
    let mut random = Random::new(7);
    let mut draw = |below: usize| usize::try_from(random.draw() % below as u64).expect("below a usize");
    let (mut late, mut moved) = (0, 0);
    for _ in 0..PLAYS {
        let mut play = Play::new();
        for _ in 0..draw(STEPS) {
            let possible: Vec<Step> = all.iter().copied().filter(|&step| play.is_possible(step)).collect();
            let Some(&step) = (!possible.is_empty()).then(|| &possible[draw(possible.len())]) else { break };
            play.take(step);
        }
        play.settle();
        if play.lives(NEWER) {
            moved += 1;
            let Consumer { session, is_online } = &play.consumer;
            assert!(*is_online && session == NAMES[NEWER], "{:?} after {:?}", play.consumer, play.story);
        }
        late += usize::from(play.story.iter().any(|step| matches!(step, Step::Hear(NEWER))));
        for at in [OLDER, NEWER] {
            if play.lives(at) {
                play.take(Step::Leave(at));
                play.settle();
            }
        }
        assert!(!play.consumer.is_online, "nobody is there: {:?} after {:?}", play.consumer, play.story);
    }
    assert!(moved > 1_000 && late > 1_000, "{moved} moved, presence was late in {late}");
}
