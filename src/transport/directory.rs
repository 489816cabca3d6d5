//! Which worker holds which device.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::takeovers::Takeovers;
use crate::protocol::claim::{self, Claim, Verdict};
use crate::protocol::id::{DeviceId, ProductId};
use crate::protocol::uplink::Token;

/// A session as the rest of the replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Index of the worker.
    pub worker: usize,
    /// The connection within the worker.
    pub token: Token,
    /// The device's product.
    pub product: ProductId,
    /// ULID of the session.
    pub session: Box<str>,
    /// Address of the client.
    pub peer: Box<str>,
    /// When it connected, ms since 1970.
    pub connected_ms: u64,
    /// When its claim came back from the other replicas' subject, us of the listener's clock.
    pub heard_us: Option<u64>,
}

/// What became of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// The device had no session here.
    Fresh,
    /// It had this one, which must be ended.
    TookOver(Entry),
    /// Its sessions replace one another too fast: two devices share an identity, or one is broken.
    Refused,
}

/// The sessions of this replica by device; shared by its workers, touched when a session begins and ends.
#[derive(Debug, Default)]
pub struct Directory {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<DeviceId, Entry>,
    takeovers: Takeovers,
}

impl Directory {
    /// Makes this the device's session, unless the device was taken over too often of late.
    pub fn enter(&self, device: DeviceId, entry: Entry, now_us: u64) -> Entered {
        let state = &mut *self.lock();
        let takes_over = state.sessions.contains_key(&device);
        if state.takeovers.refuses(&device, takes_over, now_us) {
            return Entered::Refused;
        }
        if takes_over {
            state.takeovers.note(&device, now_us);
        }
        match state.sessions.insert(device, entry) {
            None => Entered::Fresh,
            Some(older) => Entered::TookOver(older),
        }
    }

    /// Takes a session out; nothing happens when a newer one has taken its place.
    pub fn remove(&self, device: &DeviceId, worker: usize, token: Token) {
        let sessions = &mut self.lock().sessions;
        if sessions.get(device).is_some_and(|entry| entry.worker == worker && entry.token == token) {
            sessions.remove(device);
        }
    }

    /// The session of a device.
    pub fn find(&self, device: &str) -> Option<Entry> {
        self.lock().sessions.get(device).cloned()
    }

    /// Whether that is the device's session.
    pub fn holds(&self, device: &str, worker: usize, token: Token) -> bool {
        self.lock().sessions.get(device).is_some_and(|entry| entry.worker == worker && entry.token == token)
    }

    /// Notes that the own claim of a session came back.
    pub fn note_heard(&self, claim: &Claim, now_us: u64) {
        if let Some(entry) = self.lock().sessions.get_mut(&*claim.device)
            && entry.session == claim.session
        {
            entry.heard_us.get_or_insert(now_us);
        }
    }

    /// Judges another replica's claim; `None` when the device is not here. A session that yields is out, and must be
    /// ended.
    pub fn judge(&self, claim: &Claim, now_us: u64) -> Option<(Verdict, Entry)> {
        let state = &mut *self.lock();
        let entry = state.sessions.get(&*claim.device)?;
        let verdict = claim::judge(&entry.session, entry.heard_us, claim, now_us);
        if verdict != Verdict::Yield {
            return Some((verdict, entry.clone()));
        }
        let (device, entry) = state.sessions.remove_entry(&*claim.device)?;
        state.takeovers.note(&device, now_us);
        Some((verdict, entry))
    }

    /// Notes that another replica's session of a device has given way to the one here, and gives that.
    pub fn note_yielded(&self, claim: &Claim, now_us: u64) -> Option<Entry> {
        let state = &mut *self.lock();
        let (device, entry) = state.sessions.get_key_value(&*claim.device)?;
        if entry.session != claim.session {
            return None;
        }
        let (device, entry) = (device.clone(), entry.clone());
        state.takeovers.note(&device, now_us);
        Some(entry)
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

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lock().sessions.is_empty()
    }

    /// Every device with the id of its session.
    pub fn all(&self) -> Vec<(DeviceId, Box<str>)> {
        let state = self.lock();
        state.sessions.iter().map(|(device, entry)| (device.clone(), entry.session.clone())).collect()
    }

    /// Some of them, in the order of device ids.
    pub fn page(&self, offset: usize, limit: usize) -> Vec<(DeviceId, Entry)> {
        let sessions = &self.lock().sessions;
        let mut devices: Vec<&DeviceId> = sessions.keys().collect();
        devices.sort_unstable();
        let page = devices.into_iter().skip(offset).take(limit);
        page.filter_map(|device| Some((device.clone(), sessions.get(device)?.clone()))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::claim::Word;

    fn entry(slot: u32) -> Entry {
        Entry {
            worker: 0,
            token: Token { slot, generation: 0, sequence: 0 },
            product: ProductId::new("product1").expect("a valid id"),
            session: format!("session{slot}").into(),
            peer: "".into(),
            connected_ms: 0,
            heard_us: None,
        }
    }

    fn device() -> DeviceId {
        DeviceId::new("device1").expect("a valid id")
    }

    fn claim(word: Word, session: &str) -> Claim {
        Claim { word, device: "device1".into(), session: session.into(), replica: "replica2".into() }
    }

    #[test]
    fn an_older_session_never_takes_the_newer_one_out() {
        let directory = Directory::default();
        assert_eq!(directory.enter(device(), entry(1), 0), Entered::Fresh);
        assert_eq!(directory.enter(device(), entry(2), 0), Entered::TookOver(entry(1)));
        directory.remove(&device(), 0, entry(1).token);
        assert_eq!(directory.find("device1"), Some(entry(2)));
        directory.remove(&device(), 0, entry(2).token);
        assert!(directory.is_empty());
    }

    #[test]
    fn a_session_that_yields_is_out_at_once_even_before_its_connack() {
        let directory = Directory::default();
        directory.enter(device(), entry(1), 0);
        let judged = directory.judge(&claim(Word::Begun, "session2"), 0);
        assert_eq!(judged, Some((Verdict::Yield, entry(1))));
        assert!(!directory.holds("device1", 0, entry(1).token));
        assert_eq!(directory.judge(&claim(Word::Begun, "session2"), 0), None);
    }

    #[test]
    fn takeovers_between_replicas_count_like_those_within_one() {
        let directory = Directory::default();
        for turn in 0..5 {
            directory.enter(device(), entry(1), 0);
            if turn % 2 == 0 {
                directory.judge(&claim(Word::Begun, "session2"), 0);
            } else {
                assert!(directory.note_yielded(&claim(Word::Yielded, "session1"), 0).is_some());
                directory.remove(&device(), 0, entry(1).token);
            }
        }
        assert_eq!(directory.enter(device(), entry(3), 0), Entered::Fresh, "nothing is taken over here");
        assert_eq!(directory.enter(device(), entry(4), 0), Entered::Refused);
    }
}
