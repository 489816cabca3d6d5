//! Which worker holds which device.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::takeovers::{Admission, Takeovers};
use crate::protocol::claim::{self, Claim, Verdict, Word};
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
    Refused {
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
    sessions: HashMap<DeviceId, Entry>,
    takeovers: Takeovers,
}

impl Directory {
    /// Makes this the device's session, unless the device was taken over too often of late.
    pub fn enter(&self, device: DeviceId, entry: Entry, now_us: u64) -> Entered {
        let state = &mut *self.lock();
        let holds = state.sessions.contains_key(&device);
        match state.takeovers.admit(&device, holds, now_us) {
            Admission::Admitted => {}
            Admission::RefusedFirst => return Entered::Refused { is_first: true },
            Admission::Refused => return Entered::Refused { is_first: false },
        }
        if holds {
            state.takeovers.note(&device, &entry.session, now_us);
        }
        match state.sessions.insert(device, entry) {
            None => Entered::Fresh,
            Some(older) => Entered::TookOver(older),
        }
    }

    /// Takes a session out; nothing happens when a newer one has taken its place. What it gives is the session if other
    /// replicas must know that it has ended.
    pub fn remove(&self, device: &DeviceId, worker: usize, token: Token, now_us: u64) -> Option<Box<str>> {
        let state = &mut *self.lock();
        if !state.sessions.get(device).is_some_and(|entry| entry.worker == worker && entry.token == token) {
            return None;
        }
        let entry = state.sessions.remove(device)?;
        state.takeovers.knows(device.as_str(), now_us).then_some(entry.session)
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

    /// Applies another replica's claim: what it means for the session that is here; `None` when there is none. A session
    /// that yields is out, and must be ended.
    pub fn hear(&self, claim: &Claim, now_us: u64) -> Option<(Verdict, Entry)> {
        let state = &mut *self.lock();
        match claim.word {
            Word::Begun | Word::Held => state.takeovers.note_elsewhere(&claim.device, &claim.session),
            Word::Ended => state.takeovers.note_ended(&claim.device, &claim.session),
            Word::Yielded => {
                let device = DeviceId::new(&claim.device).ok()?;
                state.takeovers.note(&device, &claim.session, now_us);
            }
            Word::Refused => {
                let device = DeviceId::new(&claim.device).ok()?;
                state.takeovers.note_refused(&device, now_us);
            }
        }
        let entry = state.sessions.get(&*claim.device)?;
        let verdict = claim::judge(&entry.session, entry.heard_us, claim, now_us)?;
        if verdict != Verdict::Yield {
            return Some((verdict, entry.clone()));
        }
        let (device, entry) = state.sessions.remove_entry(&*claim.device)?;
        state.takeovers.note(&device, &claim.session, now_us);
        state.takeovers.note_elsewhere(&claim.device, &claim.session);
        Some((verdict, entry))
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
            session: format!("session{slot:02}").into(),
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
        assert_eq!(directory.remove(&device(), 0, entry(1).token, 0), None);
        assert_eq!(directory.find("device1"), Some(entry(2)));
        directory.remove(&device(), 0, entry(2).token, 0);
        assert!(directory.is_empty());
    }

    #[test]
    fn a_session_that_yields_is_out_at_once_even_before_its_connack() {
        let directory = Directory::default();
        directory.enter(device(), entry(1), 0);
        let heard = directory.hear(&claim(Word::Begun, "session02"), 0);
        assert_eq!(heard, Some((Verdict::Yield, entry(1))));
        assert!(!directory.holds("device1", 0, entry(1).token));
        assert_eq!(directory.hear(&claim(Word::Begun, "session02"), 0), None);
    }

    #[test]
    fn the_end_of_a_session_matters_to_others_only_if_the_device_was_taken_over_of_late() {
        let directory = Directory::default();
        directory.enter(device(), entry(1), 0);
        assert_eq!(directory.remove(&device(), 0, entry(1).token, 0), None);
        directory.enter(device(), entry(2), 0);
        directory.enter(device(), entry(3), 0);
        assert_eq!(directory.remove(&device(), 0, entry(3).token, 0), Some("session03".into()));
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
                let hear = |word, session: &str| directory.hear(&claim(word, session), 0);
                match way {
                    Here => {
                        directory.enter(device(), entry(next().0), 0);
                        assert!(matches!(directory.enter(device(), entry(next().0), 0), Entered::TookOver(_)));
                    }
                    FromHere => {
                        directory.enter(device(), entry(next().0), 0);
                        let (_, newer) = next();
                        assert_eq!(hear(Word::Begun, &newer).map(|(verdict, _)| verdict), Some(Verdict::Yield));
                    }
                    ToHere => {
                        let (own, session) = next();
                        directory.enter(device(), entry(own), 0);
                        assert_eq!(hear(Word::Yielded, &session).map(|(verdict, _)| verdict), Some(Verdict::Won));
                    }
                    ElsewhereAlone => {
                        hear(Word::Begun, &next().1);
                        hear(Word::Yielded, &next().1);
                    }
                }
                if let Some(entry) = directory.find("device1") {
                    directory.remove(&device(), 0, entry.token, 0);
                }
            }
            directory.hear(&claim(Word::Begun, "session98"), 0);
            assert_eq!(directory.enter(device(), entry(99), 0), Entered::Refused { is_first: true }, "{ways:?}");
            assert_eq!(directory.enter(device(), entry(99), 1), Entered::Refused { is_first: false }, "{ways:?}");
        }
    }
}
