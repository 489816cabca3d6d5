//! Cache of the service's records.
//!
//! Times are microseconds of a clock of the caller, and come as arguments. A record is fresh for `cache_ttl`; behind that the
//! last known one still counts for the session that its device has.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::HttpRegistrySettings;
use crate::protocol::child;
use crate::protocol::id::DeviceId;
use crate::registry::catalog::Catalog;
use crate::registry::{Device, Lookup};

/// Ids that are remembered as unknown, at most, 2 MiB: whoever connects can invent ids.
const UNKNOWN_MAX: usize = 10_000;

/// How long a record is kept after a look-up, us, although its device has no session: it may be about to get one.
const CONNECTING_US: u64 = 30_000_000;

/// Records of the service, with their age.
#[derive(Debug)]
pub(super) struct Cache {
    catalog: Catalog,
    entries: HashMap<DeviceId, Entry>,
    /// The entries by their `due_us`, one for each.
    due: BTreeSet<(u64, DeviceId)>,
    /// Ids without a device, and until when that counts.
    unknown: HashMap<DeviceId, u64>,
    /// The same by that time; an id that became known, or was remembered anew, leaves its earlier entry behind.
    unknown_by_end: VecDeque<(u64, DeviceId)>,
    ttl_us: u64,
    negative_ttl_us: u64,
    records_max: usize,
    /// Its hashes spread the times at which records are asked for again.
    jitter: RandomState,
}

#[derive(Debug)]
struct Entry {
    fetched_us: u64,
    /// When it was last looked up.
    used_us: AtomicU64,
    /// When it is to be asked for again, or dropped.
    due_us: u64,
}

impl Cache {
    /// An empty cache.
    pub(super) fn new(settings: &HttpRegistrySettings) -> Self {
        // A quarter, so that the sums below do not overflow.
        let us = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4);
        Self {
            catalog: Catalog::new(false),
            entries: HashMap::new(),
            due: BTreeSet::new(),
            unknown: HashMap::new(),
            unknown_by_end: VecDeque::new(),
            ttl_us: us(settings.cache_ttl).min(u64::MAX / 4),
            negative_ttl_us: us(settings.negative_ttl).min(u64::MAX / 4),
            records_max: settings.records_max,
            jitter: RandomState::new(),
        }
    }

    /// How many records are kept.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many ids are remembered as unknown.
    pub(super) fn unknown_len(&self) -> usize {
        self.unknown.len()
    }

    /// A device's record, or that there is none, while that is fresh; `None`: the service has to be asked.
    pub(super) fn fresh(&self, id: &str, now_us: u64) -> Option<Lookup> {
        if let Some(entry) = self.entries.get(id)
            && now_us < entry.fetched_us + self.ttl_us
        {
            entry.used_us.store(now_us, Ordering::Relaxed);
            return Some(self.catalog.device(id));
        }
        let until_us = *self.unknown.get(id)?;
        (now_us < until_us).then_some(Lookup::Unknown)
    }

    /// The last known record of a device, fresh or not; [`Lookup::Away`]: nothing is known of it either way.
    pub(super) fn last_known(&self, id: &str) -> Lookup {
        match self.catalog.device(id) {
            Lookup::Unknown if !self.unknown.contains_key(id) => Lookup::Away,
            lookup => lookup,
        }
    }

    /// The last known record of a child.
    pub(super) fn child(&self, id: &str) -> child::Child {
        self.catalog.child(id)
    }

    /// Takes a record in, and drops others where there are more than `records_max`. Returns the devices whose sessions must end
    /// because of it.
    pub(super) fn put(&mut self, device: Device, now_us: u64, is_connected: impl Fn(&str) -> bool) -> Vec<DeviceId> {
        let id = device.id.clone();
        self.unknown.remove(&id);
        let ended = self.catalog.put_device(device);
        // After 50 % to 80 % of its time: a slow answer still comes before the record is old, and records that were fetched
        // together are not fetched together again.
        let per_mille = 500 + self.jitter.hash_one((&id, now_us)) % 301;
        let due_us = now_us + self.ttl_us / 1_000 * per_mille;
        let used_us = AtomicU64::new(now_us);
        if let Some(before) = self.entries.insert(id.clone(), Entry { fetched_us: now_us, used_us, due_us }) {
            self.due.remove(&(before.due_us, id.clone()));
        }
        self.due.insert((due_us, id.clone()));
        self.make_room(&id, is_connected);
        ended
    }

    /// Takes in that there is no such device. Returns the devices whose sessions must end because of it.
    pub(super) fn put_unknown(&mut self, id: &DeviceId, now_us: u64) -> Vec<DeviceId> {
        let ended = self.forget(id);
        while self.unknown_by_end.len() >= UNKNOWN_MAX
            || self.unknown_by_end.front().is_some_and(|(until_us, _)| *until_us <= now_us)
        {
            let Some((until_us, oldest)) = self.unknown_by_end.pop_front() else { break };
            if self.unknown.get(&oldest) == Some(&until_us) {
                self.unknown.remove(&oldest);
            }
        }
        let until_us = now_us + self.negative_ttl_us;
        self.unknown.insert(id.clone(), until_us);
        self.unknown_by_end.push_back((until_us, id.clone()));
        ended
    }

    /// Asks for a device again soon, after an attempt that failed or is under way; the record that is there stays. The pause
    /// is a twentieth of the time that a record is fresh, between 1 s and 30 s, and half of that time at most.
    pub(super) fn postpone(&mut self, id: &DeviceId, now_us: u64) {
        let pause_us = (self.ttl_us / 20).clamp(1_000_000, 30_000_000).min(self.ttl_us / 2);
        self.set_due(id, now_us + pause_us);
    }

    /// Returns the devices with a session whose records have to be asked for again now. Drops records that are old and without a
    /// session.
    pub(super) fn take_due(&mut self, now_us: u64, is_connected: impl Fn(&str) -> bool) -> Vec<DeviceId> {
        let mut asked = Vec::new();
        while let Some((due_us, id)) = self.due.first().cloned() {
            if due_us > now_us {
                break;
            }
            // `due` and `entries` have the same ids.
            let Some(entry) = self.entries.get(&id) else { break };
            let kept_until_us =
                (entry.fetched_us + self.ttl_us).max(entry.used_us.load(Ordering::Relaxed) + CONNECTING_US);
            if is_connected(id.as_str()) {
                self.postpone(&id, now_us);
                asked.push(id);
            } else if now_us < kept_until_us {
                self.set_due(&id, kept_until_us);
            } else {
                self.forget(&id);
            }
        }
        asked
    }

    fn set_due(&mut self, id: &DeviceId, due_us: u64) {
        if let Some(entry) = self.entries.get_mut(id) {
            self.due.remove(&(entry.due_us, id.clone()));
            entry.due_us = due_us;
            self.due.insert((due_us, id.clone()));
        }
    }

    fn forget(&mut self, id: &DeviceId) -> Vec<DeviceId> {
        if let Some(entry) = self.entries.remove(id) {
            self.due.remove(&(entry.due_us, id.clone()));
        }
        self.catalog.remove_device(id.as_str())
    }

    /// Drops records of devices without a session, the one that is due first before others, but not that of `newest`.
    fn make_room(&mut self, newest: &DeviceId, is_connected: impl Fn(&str) -> bool) {
        while self.entries.len() > self.records_max {
            let first = self.due.iter().find(|(_, id)| id != newest && !is_connected(id.as_str()));
            let Some((_, id)) = first.cloned() else { break };
            self.forget(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::protocol::id::ProductId;
    use crate::protocol::secret::Secret;
    use crate::registry::{Child, Credentials};

    const S: u64 = 1_000_000;

    fn cache(records_max: usize) -> Cache {
        Cache::new(&HttpRegistrySettings {
            url: String::new(),
            token: None,
            timeout: Duration::from_secs(2),
            requests_max: 64,
            cache_ttl: Duration::from_secs(100),
            negative_ttl: Duration::from_secs(10),
            records_max,
            record_bytes_max: 1,
        })
    }

    fn id(name: &str) -> DeviceId {
        DeviceId::new(name).unwrap()
    }

    fn device(name: &str, key: &str) -> Device {
        Device {
            id: id(name),
            product: ProductId::new("product1").unwrap(),
            credentials: Some(Credentials { secure_id: "test".into(), secure_key: Secret::new(key) }),
            enabled: true,
            gateway: None,
            children: Box::default(),
        }
    }

    fn nobody(_: &str) -> bool {
        false
    }

    fn everybody(_: &str) -> bool {
        true
    }

    fn is_found(lookup: Lookup) -> bool {
        matches!(lookup, Lookup::Found(_))
    }

    fn is_fresh(lookup: Option<Lookup>) -> bool {
        lookup.is_some_and(is_found)
    }

    fn names(ids: Vec<DeviceId>) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_record_and_an_unknown_id_count_for_their_time() {
        let mut cache = cache(10);
        assert_eq!(cache.fresh("device1", 0), None);
        cache.put(device("device1", "k"), 0, nobody);
        assert!(is_fresh(cache.fresh("device1", 100 * S - 1)));
        assert_eq!(cache.fresh("device1", 100 * S), None);
        cache.put_unknown(&id("device2"), 0);
        assert_eq!(cache.fresh("device2", 10 * S - 1), Some(Lookup::Unknown));
        assert_eq!(cache.fresh("device2", 10 * S), None);
        cache.put(device("device2", "k"), 5 * S, nobody);
        assert!(is_fresh(cache.fresh("device2", 6 * S)));
    }

    #[test]
    fn a_record_that_is_fetched_again_says_whose_session_ends() {
        let mut cache = cache(10);
        cache.put(device("device1", "k"), 0, everybody);
        assert_eq!(names(cache.put(device("device1", "k"), S, everybody)), [""; 0]);
        assert_eq!(names(cache.put(device("device1", "other"), S, everybody)), ["device1"]);
        assert_eq!(names(cache.put_unknown(&id("device1"), S)), ["device1"]);
        assert_eq!(names(cache.put_unknown(&id("device1"), S)), [""; 0]);
        assert_eq!((cache.last_known("device1"), cache.last_known("device9")), (Lookup::Unknown, Lookup::Away));
    }

    #[test]
    fn the_record_of_a_connected_device_is_asked_for_before_its_time_is_over_and_again_after_a_failure() {
        let mut cache = cache(2_000);
        for number in 0..1_000 {
            cache.put(device(&format!("device{number}"), "k"), 0, nobody);
        }
        assert_eq!(cache.take_due(50 * S - 1, everybody).len(), 0);
        let half = cache.take_due(65 * S, everybody).len();
        assert!((300..700).contains(&half), "{half} of 1,000: they are to be spread");
        cache.take_due(80 * S, everybody);
        // None was answered: each is asked for again after 5 s, and is still there.
        assert_eq!(cache.take_due(80 * S + 5 * S, everybody).len(), 1_000);
        assert_eq!(cache.take_due(80 * S + 5 * S, everybody).len(), 0);
        assert!(is_found(cache.last_known("device1")));
        assert_eq!(cache.fresh("device1", 100 * S), None, "too old for a CONNECT");
    }

    #[test]
    fn the_record_of_a_device_without_a_session_goes_when_its_time_is_over() {
        let mut cache = cache(10);
        cache.put(device("device1", "k"), 0, nobody);
        assert_eq!(cache.take_due(99 * S, nobody).len(), 0);
        assert!(is_fresh(cache.fresh("device1", 99 * S)));
        cache.take_due(100 * S, nobody);
        assert_eq!(cache.len(), 1, "it was asked for a moment ago and may be connecting");
        cache.take_due(129 * S, nobody);
        assert_eq!((cache.len(), cache.due.len()), (0, 0));
        assert_eq!(cache.last_known("device1"), Lookup::Away);
    }

    #[test]
    fn more_records_than_allowed_let_those_without_a_session_go() {
        let mut cache = cache(2);
        let is_connected = |id: &str| id == "device1";
        for (name, at) in [("device1", 0), ("device2", 1), ("device3", 2), ("device4", 3)] {
            cache.put(device(name, "k"), at * 100 * S, is_connected);
        }
        assert_eq!((cache.len(), cache.due.len()), (2, 2));
        assert!(is_found(cache.last_known("device1")) && is_found(cache.last_known("device4")));
    }

    #[test]
    fn invented_ids_take_no_more_than_their_share() {
        let mut cache = cache(10);
        for number in 0..=UNKNOWN_MAX {
            cache.put_unknown(&id(&format!("device{number}")), 0);
        }
        assert_eq!((cache.unknown.len(), cache.unknown_by_end.len()), (UNKNOWN_MAX, UNKNOWN_MAX));
        assert_eq!(cache.fresh("device0", 1), None);
        cache.put_unknown(&id("device0"), 11 * S);
        assert_eq!((cache.unknown.len(), cache.unknown_by_end.len()), (1, 1));
    }

    #[test]
    fn a_child_is_known_by_the_record_of_its_gateway_as_long_as_that_is() {
        let mut cache = cache(10);
        let child = Child { id: id("child1"), product: ProductId::new("product2").unwrap() };
        cache.put(Device { children: [child].into(), ..device("gw1", "k") }, 0, nobody);
        assert!(
            matches!(cache.child("child1"), child::Child::Known { gateway: Some(gateway), .. } if gateway == id("gw1"))
        );
        assert_eq!(cache.last_known("child1"), Lookup::Away);
        cache.take_due(200 * S, nobody);
        assert_eq!(cache.child("child1"), child::Child::Unknown);
    }
}
