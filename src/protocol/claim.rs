//! Which of two sessions of a device stays, when replicas tell each other whom they hold.
//!
//! Every replica hears every claim, its own included. Over one server all hear them in the same order, and a claim that
//! is heard after the own one is newer, whatever clocks say. Only claims that cross each other within [`CROSSING_US`],
//! as they can between servers of a cluster, and claims that settle what happened during an outage, are decided by the
//! ids of the sessions, which sort by the time of their making; then both sides decide alike.

/// Claims of one device within this time may have crossed each other, us.
pub const CROSSING_US: u64 = 500_000;

/// What a replica says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It has just begun.
    Begun,
    /// It is there: said after an outage, and to a replica that claims the device with an older session.
    Held,
    /// It took the device over: the speaker's own session gave way to it.
    Yielded,
    /// It has ended, of a device that was taken over of late.
    Ended,
    /// It never began: the device was taken over too often, and is refused for a while.
    Refused,
}

impl Word {
    const ALL: [Word; 5] = [Word::Begun, Word::Held, Word::Yielded, Word::Ended, Word::Refused];

    fn as_str(self) -> &'static str {
        match self {
            Word::Begun => "begun",
            Word::Held => "held",
            Word::Yielded => "yielded",
            Word::Ended => "ended",
            Word::Refused => "refused",
        }
    }
}

/// Longest claim in bytes: ids of devices have 64, of sessions 26, of replicas a host name and 11.
const CLAIM_BYTES_MAX: usize = 512;

/// One claim, as it travels: four lines of text. Ids hold no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is said.
    pub word: Word,
    /// The device.
    pub device: Box<str>,
    /// The session that the word is about.
    pub session: Box<str>,
    /// The replica that speaks.
    pub replica: Box<str>,
}

/// What the holder of another session of the device does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its session ends.
    Yield,
    /// Its session stays, and it says so, for the other one must end.
    Insist,
    /// Nothing: the claim is older than its session.
    Keep,
    /// Its session took the device over from another replica.
    Won,
}

impl Claim {
    /// The claim as text.
    pub fn encode(&self) -> String {
        format!("{}\n{}\n{}\n{}", self.word.as_str(), self.device, self.session, self.replica)
    }

    /// Reads a claim; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > CLAIM_BYTES_MAX {
            return None;
        }
        let mut lines = std::str::from_utf8(bytes).ok()?.split('\n');
        let word = lines.next()?;
        let word = Word::ALL.into_iter().find(|known| known.as_str() == word)?;
        let mut next = || lines.next().filter(|line| !line.is_empty()).map(Box::from);
        let claim = Claim { word, device: next()?, session: next()?, replica: next()? };
        lines.next().is_none().then_some(claim)
    }
}

/// Judges another replica's claim about a device that this one holds, too; `None` when it says nothing about that.
/// `heard_us` is when the own claim came back, if it has; both times are of one clock.
pub fn judge(own_session: &str, heard_us: Option<u64>, claim: &Claim, now_us: u64) -> Option<Verdict> {
    let other_is_newer = *claim.session > *own_session;
    Some(match (claim.word, heard_us) {
        (Word::Yielded, _) if *claim.session == *own_session => Verdict::Won,
        (Word::Yielded | Word::Ended | Word::Refused, _) => return None,
        (Word::Begun, Some(heard_us)) if now_us.saturating_sub(heard_us) > CROSSING_US => Verdict::Yield,
        (Word::Begun | Word::Held, _) if other_is_newer => Verdict::Yield,
        // The own claim is still to be heard by the other, which will yield to it.
        (Word::Begun, None) => Verdict::Keep,
        (Word::Begun | Word::Held, _) => Verdict::Insist,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(word: Word, session: &str) -> Claim {
        Claim { word, device: "device1".into(), session: session.into(), replica: "replica2".into() }
    }

    #[test]
    fn a_claim_survives_its_text_and_nothing_else_is_one() {
        for word in Word::ALL {
            let claim = claim(word, "01J");
            assert_eq!(Claim::decode(claim.encode().as_bytes()), Some(claim));
        }
        for text in ["", "begun", "begun\nd\ns", "begun\nd\ns\nr\nx", "began\nd\ns\nr", "begun\n\ns\nr"] {
            assert_eq!(Claim::decode(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Claim::decode(b"begun\n\xff\ns\nr"), None);
        assert_eq!(Claim::decode(format!("begun\nd\ns\n{}", "r".repeat(CLAIM_BYTES_MAX)).as_bytes()), None);
    }

    #[test]
    fn a_claim_heard_well_after_the_own_one_wins_whatever_clocks_say() {
        assert_eq!(judge("2", Some(0), &claim(Word::Begun, "1"), CROSSING_US + 1), Some(Verdict::Yield));
        assert_eq!(judge("1", Some(0), &claim(Word::Begun, "2"), CROSSING_US + 1), Some(Verdict::Yield));
    }

    #[test]
    fn a_claim_heard_before_the_own_one_loses() {
        assert_eq!(judge("2", None, &claim(Word::Begun, "1"), 0), Some(Verdict::Keep));
    }

    #[test]
    fn exactly_one_of_two_sessions_stays_however_claims_cross() {
        // Each side hears the other's claim just after, or before, its own.
        for (first_heard, second_heard) in [(Some(0), Some(0)), (Some(0), None), (None, Some(0)), (None, None)] {
            for word in [Word::Begun, Word::Held] {
                let older = judge("1", first_heard, &claim(word, "2"), 1);
                let newer = judge("2", second_heard, &claim(word, "1"), 1);
                assert_eq!(older, Some(Verdict::Yield), "{first_heard:?} {word:?}");
                assert_ne!(newer, Some(Verdict::Yield), "{second_heard:?} {word:?}");
            }
        }
    }

    #[test]
    fn after_an_outage_the_later_session_stays_and_says_so() {
        assert_eq!(judge("2", Some(0), &claim(Word::Held, "1"), u64::MAX), Some(Verdict::Insist));
        assert_eq!(judge("1", Some(0), &claim(Word::Held, "2"), u64::MAX), Some(Verdict::Yield));
        assert_eq!(judge("1", Some(0), &claim(Word::Yielded, "2"), u64::MAX), None);
        assert_eq!(judge("2", Some(0), &claim(Word::Yielded, "2"), u64::MAX), Some(Verdict::Won));
    }
}
