//! Whether a session lives, asked by a replica that would end its own for it.

/// An answer that comes within this time says that the session lives, us. What takes longer may have waited somewhere
/// while the session ended.
pub const PATIENCE_US: u64 = 500_000;

/// A question, which its answer repeats: so nobody has to remember what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The session that would give way.
    pub asker: Box<str>,
    /// When it was asked, by the asker's clock that never goes back, us.
    pub asked_us: u64,
    /// An answer that comes later proves nothing, us of the same clock.
    pub until_us: u64,
}

impl Question {
    /// A question on behalf of that session.
    pub(super) fn new(asker: &str, now_us: u64) -> Self {
        Self { asker: asker.into(), asked_us: now_us, until_us: now_us.saturating_add(PATIENCE_US) }
    }

    /// The same question once more, if its answer comes too late now. It may take twice as long as the last answer: where
    /// all answers are slow they count in the end.
    pub(super) fn again(&self, now_us: u64) -> Option<Self> {
        let took_us = now_us.saturating_sub(self.asked_us);
        let until_us = now_us.saturating_add(took_us.saturating_mul(2));
        (now_us > self.until_us).then(|| Self { asker: self.asker.clone(), asked_us: now_us, until_us })
    }
}
