//! Which worker holds which device.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::reconnects::Reconnects;
use super::takeovers::{Admission, Takeovers};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::keyed::{KeyedMap, KeyedSet};
use crate::protocol::limit::Now;
use crate::protocol::uplink::SlotId;
use crate::replica::claim::{self, Claim, ClaimClock, ClaimKind, Decision, OwnSession};

/// Age above which a claim that presence was late is ignored, us, so that recorded ones are not replayed for ever.
const LATE_CLAIM_US: u64 = 60_000_000;

/// A session as the rest of the replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Index of the worker.
    pub worker: usize,
    /// Its slot in the worker.
    pub slot: SlotId,
    /// The device's product.
    pub product: ProductId,
    /// ULID of the session.
    pub session: Box<str>,
    /// Address of the client.
    pub peer: Box<str>,
    /// When it connected, ms since 1970.
    pub connected_ms: u64,
    /// When it began, by the clock that replicas share; [`Directory::enter`] sets it.
    pub since: u64,
    /// Whether an older session gives way to it, here or elsewhere; the directory sets it.
    pub replaces: bool,
}

/// The result of [`Directory::enter`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// The device had no session here.
    Fresh,
    /// It had this one, which must be ended.
    TookOver(Entry),
    /// It connects too often.
    ReconnectsTooOften,
    /// Its sessions replace one another too fast: two devices share an identity, or one is broken.
    TakenOverTooOften {
        /// Whether other replicas must be told, for they refuse it from now on, too.
        is_first: bool,
    },
}

/// The sessions of this replica by device; shared by its workers, touched when a session begins and ends.
#[derive(Debug, Default)]
pub struct Directory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: KeyedMap<DeviceId, Entry>,
    /// Devices whose session is about to end, for its age or as it is shed.
    leaving: KeyedSet<DeviceId>,
    takeovers: Takeovers,
    reconnects: Reconnects,
    clock: ClaimClock,
}

impl Directory {
    /// Makes this the device's session, unless the device connects or is taken over too often.
    pub fn enter(&self, device: DeviceId, mut entry: Entry, now: Now) -> Entered {
        let state = &mut *self.lock();
        if state.reconnects.refuses(device.as_str(), now.us) {
            return Entered::ReconnectsTooOften;
        }
        let holds = state.sessions.contains_key(&device);
        match state.takeovers.admit(&device, holds, now.us) {
            Admission::Admitted => {}
            Admission::RefusedFirst => return Entered::TakenOverTooOften { is_first: true },
            Admission::Refused => return Entered::TakenOverTooOften { is_first: false },
        }
        state.reconnects.note(&device, now.us);
        if holds {
            state.takeovers.note_takeover(&device, &entry.session, 0, now.us);
        }
        entry.since = state.clock.begin(now);
        entry.replaces = holds;
        state.leaving.remove(&device);
        match state.sessions.insert(device, entry) {
            None => Entered::Fresh,
            Some(older) => Entered::TookOver(older),
        }
    }

    /// Takes a session out; nothing happens when a newer one has taken its place. What it gives is the session if other
    /// replicas must know that it has ended.
    pub fn remove(&self, device: &DeviceId, worker: usize, slot: SlotId, now_us: u64) -> Option<Box<str>> {
        let state = &mut *self.lock();
        if !state.sessions.get(device).is_some_and(|entry| entry.worker == worker && entry.slot == slot) {
            return None;
        }
        let entry = state.sessions.remove(device)?;
        state.leaving.remove(device);
        state.takeovers.remembers(device.as_str(), now_us).then_some(entry.session)
    }

    /// The session of a device.
    pub fn find(&self, device: &str) -> Option<Entry> {
        self.lock().sessions.get(device).cloned()
    }

    /// Whether an older session gives way to that session; `None`: it is not the device's.
    pub fn replaces(&self, device: &str, worker: usize, slot: SlotId) -> Option<bool> {
        let state = self.lock();
        let entry = state.sessions.get(device).filter(|entry| entry.worker == worker && entry.slot == slot);
        entry.map(|entry| entry.replaces)
    }

    /// Applies another replica's claim: what it means for the session that is here; `None` when there is nothing to do. A
    /// session that yields is out, and must be ended.
    pub fn hear(&self, claim: &Claim, now: Now) -> Option<(Decision, Entry)> {
        let state = &mut *self.lock();
        state.clock.hear(claim.said, now);
        let age_us = state.clock.now(now).saturating_sub(claim.said);
        match claim.kind {
            ClaimKind::Begun | ClaimKind::Held | ClaimKind::Lives => {
                state.takeovers.note_elsewhere(&claim.device, &claim.session)
            }
            ClaimKind::Ended => state.takeovers.note_ended(&claim.device, &claim.session),
            ClaimKind::Yielded => {
                let device = DeviceId::new(&claim.device).ok()?;
                state.takeovers.note_takeover(&device, &claim.session, age_us, now.us);
            }
            ClaimKind::Refused => {
                let device = DeviceId::new(&claim.device).ok()?;
                state.takeovers.note_refused(&device, age_us, now.us);
            }
            ClaimKind::Late if age_us > LATE_CLAIM_US => return None,
            ClaimKind::Asked | ClaimKind::Late | ClaimKind::Time => {}
        }
        let entry = state.sessions.get(&*claim.device)?;
        let decision = claim::decide(OwnSession { session: &entry.session, since: entry.since }, claim, now.us)?;
        if decision != Decision::Yield {
            let entry = entry.clone();
            if let (Decision::Answer(_), Some(entry)) = (&decision, state.sessions.get_mut(&*claim.device)) {
                entry.replaces = true;
            }
            return Some((decision, entry));
        }
        let (device, entry) = state.sessions.remove_entry(&*claim.device)?;
        state.leaving.remove(&device);
        state.takeovers.note_takeover(&device, &claim.session, 0, now.us);
        state.takeovers.note_elsewhere(&claim.device, &claim.session);
        Some((decision, entry))
    }

    /// When the session began, by the clock that replicas share, and what that clock says now. `None` when the session is
    /// not here any more.
    pub fn since(&self, device: &str, session: &str, now: Now) -> Option<(u64, u64)> {
        let state = &mut *self.lock();
        let entry = state.sessions.get(device).filter(|entry| *entry.session == *session)?;
        Some((entry.since, state.clock.now(now)))
    }

    /// The clock that replicas share.
    pub fn time(&self, now: Now) -> u64 {
        self.lock().clock.now(now)
    }

    /// Whether another replica's clock is so far behind that it must be told.
    pub fn is_ahead_of(&self, said: u64, now: Now) -> bool {
        self.lock().clock.is_ahead_of(said, now)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// How many each of that many workers holds.
    pub fn count_by_worker(&self, workers: usize) -> Vec<usize> {
        let mut counts = vec![0; workers];
        for entry in self.lock().sessions.values() {
            if let Some(count) = counts.get_mut(entry.worker) {
                *count += 1;
            }
        }
        counts
    }

    /// Notes that this session is about to end, if it is still the device's.
    pub fn note_leaving(&self, device: &DeviceId, worker: usize, slot: SlotId) {
        let state = &mut *self.lock();
        if state.sessions.get(device).is_some_and(|entry| entry.worker == worker && entry.slot == slot) {
            state.leaving.insert(device.clone());
        }
    }

    /// Number of sessions, without those that are about to end.
    pub fn staying(&self) -> usize {
        let state = self.lock();
        state.sessions.len() - state.leaving.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().sessions.is_empty()
    }

    /// Every device with the id of its session.
    pub fn all(&self) -> Vec<(DeviceId, Box<str>)> {
        let state = self.lock();
        state.sessions.iter().map(|(device, entry)| (device.clone(), entry.session.clone())).collect()
    }

    /// Some of those that match, in the order of device ids: at most `limit` behind the device `after` and `offset`
    /// further ones. With them the number of all that match, and whether there are more behind them.
    pub fn page(
        &self,
        matches: impl Fn(&DeviceId, &Entry) -> bool,
        after: &str,
        offset: usize,
        limit: usize,
    ) -> (usize, bool, Vec<(DeviceId, Entry)>) {
        let sessions = &self.lock().sessions;
        let mut found: Vec<(&DeviceId, &Entry)> =
            sessions.iter().filter(|(device, entry)| matches(device, entry)).collect();
        let total = found.len();
        found.retain(|(device, _)| device.as_str() > after);
        found.sort_unstable_by_key(|(device, _)| *device);
        let has_more = found.len() > offset.saturating_add(limit);
        let page = found.into_iter().skip(offset).take(limit);
        (total, has_more, page.map(|(device, entry)| (device.clone(), entry.clone())).collect())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::claim::Question;

    fn entry(slot: u32) -> Entry {
        Entry {
            worker: 0,
            slot: SlotId { index: slot, generation: 0 },
            product: ProductId::new("product1").expect("a valid id"),
            session: format!("session{slot:02}").into(),
            peer: "".into(),
            connected_ms: 0,
            since: 0,
            replaces: false,
        }
    }

    fn device() -> DeviceId {
        DeviceId::new("device1").expect("a valid id")
    }

    const NOW: Now = Now { unix_ms: 1_700_000_000_000, us: 0 };

    /// Hears a claim of another replica about a session that is newer than all so far.
    fn hear(
        directory: &Directory,
        kind: ClaimKind,
        session: &str,
        question: Option<Question>,
    ) -> Option<(Decision, Entry)> {
        let (device, replica) = ("device1".into(), "replica2".into());
        let since = directory.time(NOW) + 1;
        let claim = Claim { kind, device, session: session.into(), replica, since, said: since, question };
        directory.hear(&claim, NOW)
    }

    /// Lets the session that is here give way to that one.
    fn give_way(directory: &Directory, session: &str) -> Option<(Decision, Entry)> {
        let (decision, _) = hear(directory, ClaimKind::Begun, session, None)?;
        let Decision::Ask(question) = decision else { panic!("{decision:?}") };
        hear(directory, ClaimKind::Lives, session, Some(question))
    }

    #[test]
    fn an_older_session_never_takes_the_newer_one_out() {
        let directory = Directory::default();
        assert_eq!(directory.enter(device(), entry(1), NOW), Entered::Fresh);
        let first = directory.find("device1").expect("it has just begun");
        assert_eq!(directory.enter(device(), entry(2), NOW), Entered::TookOver(first));
        assert_eq!(directory.remove(&device(), 0, entry(1).slot, 0), None);
        assert!(directory.replaces("device1", 0, entry(2).slot).is_some());
        directory.remove(&device(), 0, entry(2).slot, 0);
        assert!(directory.is_empty());
    }

    #[test]
    fn a_session_that_yields_is_out_at_once_even_before_its_connack() {
        let directory = Directory::default();
        directory.enter(device(), entry(1), NOW);
        let own = directory.find("device1").expect("it has just begun");
        assert_eq!(give_way(&directory, "session02"), Some((Decision::Yield, own)));
        assert!(directory.replaces("device1", 0, entry(1).slot).is_none());
        assert_eq!(hear(&directory, ClaimKind::Begun, "session02", None), None);
    }

    #[test]
    fn the_end_of_a_session_matters_to_others_only_if_the_device_was_taken_over_of_late() {
        let directory = Directory::default();
        directory.enter(device(), entry(1), NOW);
        assert_eq!(directory.remove(&device(), 0, entry(1).slot, 0), None);
        directory.enter(device(), entry(2), NOW);
        directory.enter(device(), entry(3), NOW);
        assert_eq!(directory.remove(&device(), 0, entry(3).slot, 0), Some("session03".into()));
    }

    /// The ways in which a device is taken over, as the replica with this directory meets them.
    #[derive(Debug, Clone, Copy)]
    enum Takeover {
        Here,
        FromHere,
        ToHere,
        ElsewhereAlone,
    }

    #[test]
    fn takeovers_count_alike_on_whichever_replicas_they_are() {
        use Takeover::{ElsewhereAlone, FromHere, Here, ToHere};
        for ways in
            [[Here; 5], [FromHere; 5], [ToHere; 5], [ElsewhereAlone; 5], [Here, FromHere, ToHere, ElsewhereAlone, Here]]
        {
            let directory = Directory::default();
            let mut number = 0;
            let mut next = || {
                number += 1;
                (number, format!("session{number:02}"))
            };
            for way in ways {
                let hear = |kind, session: &str| hear(&directory, kind, session, None).map(|(decision, _)| decision);
                match way {
                    Here => {
                        directory.enter(device(), entry(next().0), NOW);
                        assert!(matches!(directory.enter(device(), entry(next().0), NOW), Entered::TookOver(_)));
                    }
                    FromHere => {
                        directory.enter(device(), entry(next().0), NOW);
                        let (_, newer) = next();
                        let decision = give_way(&directory, &newer).map(|(decision, _)| decision);
                        assert_eq!(decision, Some(Decision::Yield));
                    }
                    ToHere => {
                        let (own, session) = next();
                        directory.enter(device(), entry(own), NOW);
                        assert_eq!(hear(ClaimKind::Yielded, &session), Some(Decision::Won));
                    }
                    ElsewhereAlone => {
                        hear(ClaimKind::Begun, &next().1);
                        hear(ClaimKind::Yielded, &next().1);
                    }
                }
                if let Some(entry) = directory.find("device1") {
                    directory.remove(&device(), 0, entry.slot, 0);
                }
            }
            hear(&directory, ClaimKind::Begun, "session98", None);
            assert_eq!(
                directory.enter(device(), entry(99), NOW),
                Entered::TakenOverTooOften { is_first: true },
                "{ways:?}"
            );
            assert_eq!(
                directory.enter(device(), entry(99), NOW),
                Entered::TakenOverTooOften { is_first: false },
                "{ways:?}"
            );
        }
    }
}
