//! Which of two sessions of a device stays, when replicas tell each other whom they hold.
//!
//! Every replica hears every claim, but a claim may be heard late: it can wait in a socket for as long as a server or a
//! route stands still, while the device connects elsewhere. So the order in which claims are heard decides nothing.
//!
//! - The newer of two sessions stays, by when they began on a clock that replicas share ([`ClaimClock`]). Whoever has
//!   heard of a session begins the next one later, whatever the clocks of the two machines say. All replicas compare
//!   alike, so two sessions never both give way.
//! - A session gives way only to one that lives. Whoever hears of a newer one asks, and an answer counts only if it comes
//!   soon after the question ([`PATIENCE_US`]); a later one is asked for again. A claim of a session that has ended
//!   meanwhile is not answered, so it ends nobody.
//! - Whoever hears of an older one says that it holds a newer one, and is asked in its turn.
//! - An older session whose `online` came to the queue late says so, and the newer one repeats its own.

mod clock;
mod question;
mod secrets;
mod text;

#[cfg(test)]
mod model;

pub use self::clock::ClaimClock;
pub use self::question::{PATIENCE_US, Question};
pub use self::secrets::ClaimSecrets;
#[cfg(feature = "bridge")]
pub(in crate::replica) use self::secrets::{Purpose, SIGNATURE_DIGITS};
pub use self::text::ClaimError;

/// Something that a replica says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimKind {
    /// It has just begun.
    Begun,
    /// It is there: said after an outage, and to a replica that claims the device with an older session.
    Held,
    /// Does it live? Asked by a replica that would end its own for it.
    Asked,
    /// It lives: the answer.
    Lives,
    /// It took the device over: the speaker's own session gave way to it.
    Yielded,
    /// It has ended; said only of devices that were taken over recently.
    Ended,
    /// Its `online` is stored, and may stand behind that of a newer session.
    Late,
    /// It never began: the device was taken over too often, and is refused for a while.
    Refused,
    /// Nothing but the time: said by a replica that is new, and answered by those whose clock is ahead.
    Time,
}

/// One claim, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The kind of claim.
    pub kind: ClaimKind,
    /// The device; empty with [`ClaimKind::Time`].
    pub device: Box<str>,
    /// The session that the word is about; empty with [`ClaimKind::Time`].
    pub session: Box<str>,
    /// The replica that speaks.
    pub replica: Box<str>,
    /// When the session began, by the [`ClaimClock`]; 0 where it does not matter.
    pub since: u64,
    /// When the word was said, by the [`ClaimClock`].
    pub said: u64,
    /// With [`ClaimKind::Asked`] and [`ClaimKind::Lives`]: the question.
    pub question: Option<Question>,
}

/// A session as claims compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnSession<'a> {
    /// Its id.
    pub session: &'a str,
    /// When it began, by the [`ClaimClock`].
    pub since: u64,
}

/// The consequence of another replica's claim for the holder of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It says that it holds a newer one.
    Insist,
    /// It asks whether the other one lives.
    Ask(Question),
    /// It says that its own lives, in answer to that question.
    Answer(Question),
    /// Its session ends.
    Yield,
    /// Its session took the device over from another replica.
    Won,
    /// Its session says once more that the device is online.
    Announce,
}

/// Judges another replica's claim about a device of which this one holds a session; `None` when there is nothing to do.
pub fn decide(own: OwnSession<'_>, claim: &Claim, now_us: u64) -> Option<Decision> {
    let is_own = *claim.session == *own.session;
    let is_newer = (claim.since, &*claim.session) > (own.since, own.session);
    match (claim.kind, &claim.question) {
        (ClaimKind::Begun | ClaimKind::Held, _) if is_newer => Some(Decision::Ask(Question::new(own.session, now_us))),
        (ClaimKind::Begun | ClaimKind::Held, _) => Some(Decision::Insist),
        (ClaimKind::Asked, Some(question)) => is_own.then(|| Decision::Answer(question.clone())),
        (ClaimKind::Lives, Some(question)) if is_newer && *question.asker == *own.session => {
            Some(question.again(now_us).map_or(Decision::Yield, Decision::Ask))
        }
        (ClaimKind::Yielded, _) => is_own.then_some(Decision::Won),
        (ClaimKind::Late, _) => (!is_own && !is_newer).then_some(Decision::Announce),
        (ClaimKind::Asked | ClaimKind::Lives | ClaimKind::Ended | ClaimKind::Refused | ClaimKind::Time, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: OwnSession<'_> = OwnSession { session: "m", since: 100 };

    fn claim(kind: ClaimKind, session: &str, since: u64, question: Option<Question>) -> Claim {
        let (device, replica) = ("device1".into(), "replica2".into());
        Claim { kind, device, session: session.into(), replica, since, said: since, question }
    }

    fn question(asker: &str, asked_us: u64, until_us: u64) -> Option<Question> {
        Some(Question { asker: asker.into(), asked_us, until_us })
    }

    #[test]
    fn a_session_yields_to_a_newer_one_alone_and_only_when_that_has_just_said_that_it_lives() {
        let ask = |now_us| Some(Decision::Ask(Question::new("m", now_us)));
        let in_time = || question("m", 0, 10);
        let table = [
            ("a newer one begins", ClaimKind::Begun, "a", 101, None, 7, ask(7)),
            ("a newer one is held", ClaimKind::Held, "a", 101, None, 7, ask(7)),
            ("an older one begins", ClaimKind::Begun, "z", 99, None, 7, Some(Decision::Insist)),
            ("an older one is held", ClaimKind::Held, "z", 99, None, 7, Some(Decision::Insist)),
            ("one of the same moment, and a later name", ClaimKind::Begun, "n", 100, None, 7, ask(7)),
            (
                "one of the same moment, and an earlier name",
                ClaimKind::Begun,
                "l",
                100,
                None,
                7,
                Some(Decision::Insist),
            ),
            ("the newer one lives", ClaimKind::Lives, "a", 101, in_time(), 10, Some(Decision::Yield)),
            (
                "the newer one lived, which was long in coming",
                ClaimKind::Lives,
                "a",
                101,
                in_time(),
                11,
                Some(Decision::Ask(Question { asker: "m".into(), asked_us: 11, until_us: 33 })),
            ),
            ("an older one lives", ClaimKind::Lives, "z", 99, in_time(), 1, None),
            ("it lives, in answer to another session", ClaimKind::Lives, "a", 101, question("l", 0, 10), 1, None),
            ("a question about another session", ClaimKind::Asked, "l", 0, question("a", 0, 10), 1, None),
            (
                "a question about the own one",
                ClaimKind::Asked,
                "m",
                0,
                question("a", 0, 10),
                99,
                Some(Decision::Answer(Question { asker: "a".into(), asked_us: 0, until_us: 10 })),
            ),
            ("the own one took over", ClaimKind::Yielded, "m", 0, None, 1, Some(Decision::Won)),
            ("another one took over", ClaimKind::Yielded, "a", 0, None, 1, None),
            ("the other one has ended", ClaimKind::Ended, "a", 101, None, 1, None),
            ("the other one was refused", ClaimKind::Refused, "a", 101, None, 1, None),
            ("the time", ClaimKind::Time, "", 101, None, 1, None),
        ];
        for (case, kind, session, since, question, now_us, expected) in table {
            assert_eq!(decide(OWN, &claim(kind, session, since, question), now_us), expected, "{case}");
        }
    }
}
