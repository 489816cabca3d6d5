//! Presence of a session: whether its `online` counts, or may be stored behind that of a newer session of the device.

use super::Ending;
use super::window::LatePresence;

/// Time from the start of a session, in us, within which its `online` is stored in order. One that is stored later may
/// follow the `online` of a newer session on another replica, which this one has not heard of.
const LATE_US: u64 = 1_000_000;

/// Time within which replicas that hear of each other again agree who has a device, in us.
pub(crate) const SETTLED_US: u64 = 5_000_000;

/// Presence of one session.
#[derive(Debug)]
pub(super) struct Presence {
    began_us: u64,
    /// Time at which the last `online` was stored.
    online_us: Option<u64>,
    /// Whether that `online` may be stored behind the `online` of a newer session.
    is_late: bool,
    /// Whether an older session gave way to this one, and so wrote no `offline`.
    replaces: bool,
    /// See [`Presence::take_late`].
    late: Option<LatePresence>,
}

impl Presence {
    /// Presence of a session that begins at `now_us`.
    pub(super) fn new(now_us: u64) -> Self {
        Self { began_us: now_us, online_us: None, is_late: false, replaces: false, late: None }
    }

    /// Notes when the CONNECT was accepted, us of the worker's clock.
    pub(super) fn note_accepted(&mut self, at_us: u64) {
        self.began_us = self.began_us.min(at_us);
    }

    /// Notes that an older session gave way to this one.
    pub(super) fn replaces_another(&mut self) {
        self.replaces = true;
    }

    /// Notes that `online` is stored, while the session has not ended.
    pub(super) fn stored(&mut self, now_us: u64) {
        self.online_us = Some(now_us);
        self.is_late = self.is_slow(now_us);
        if self.is_late {
            self.late = self.late.max(Some(LatePresence::Stored));
        }
    }

    /// Notes the fate of presence that was not stored when the session ended.
    pub(super) fn stored_after_end(&mut self, fate: LatePresence, now_us: u64) {
        self.is_late |= self.is_slow(now_us) || fate == LatePresence::Unknown;
        self.late = self.late.max(Some(fate));
    }

    /// Notes the end of the session. Returns whether presence that is not stored yet must be stored all the same.
    pub(super) fn end(&mut self, ending: Ending, now_us: u64) -> bool {
        let is_settled = self.online_us.is_none_or(|online_us| now_us.saturating_sub(online_us) > SETTLED_US);
        if is_settled {
            self.is_late = false;
        } else if ending == Ending::TakenOver {
            self.late = Some(LatePresence::Stored);
        }
        self.replaces && self.online_us.is_none() && ending != Ending::TakenOver
    }

    /// Takes the news that presence of this session may be stored behind that of a newer one. `is_last`: nothing of the
    /// session is on its way any more. News of presence whose fate is unknown waits for that.
    pub(super) fn take_late(&mut self, is_last: bool) -> Option<LatePresence> {
        let is_known = is_last || self.late == Some(LatePresence::Stored);
        self.late.take_if(|_| is_known)
    }

    /// Whether a session that was taken over must write `offline`: its `online` may be the last one that counts, and the
    /// newer session may have ended before it is told so. True once.
    pub(super) fn take_owed_offline(&mut self) -> bool {
        std::mem::take(&mut self.is_late)
    }

    fn is_slow(&self, now_us: u64) -> bool {
        now_us.saturating_sub(self.began_us) > LATE_US
    }
}
