//! Cache of the service's records.
//!
//! Times are us since some moment and come as arguments.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::HttpRegistrySettings;
use crate::protocol::child;
use crate::protocol::id::DeviceId;
use crate::registry::catalog::Catalog;
use crate::registry::{Device, Lookup};

/// Ids that are remembered as unknown, at most: anybody can invent some. 2 MiB.
const UNKNOWN_MAX: usize = 10_000;

/// A record that was asked for may be about to get a session for so long, and is kept.
const CONNECTING_US: u64 = 30_000_000;

/// Records of the service, with their age.
#[derive(Debug)]
pub(super) struct Cache {
    catalog: Catalog,
    entries: HashMap<DeviceId, Entry>,
    /// When each entry is looked at again.
    due: BTreeSet<(u64, DeviceId)>,
    unknown: HashMap<DeviceId, u64>,
    unknown_by_end: VecDeque<(u64, DeviceId)>,
    ttl_us: u64,
    negative_ttl_us: u64,
    records_max: usize,
    jitter: RandomState,
}

#[derive(Debug)]
struct Entry {
    fetched_us: u64,
    used_us: AtomicU64,
    due_us: u64,
}

impl Cache {
    /// Knows nothing.
    pub(super) fn new(settings: &HttpRegistrySettings) -> Self {
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

    /// The record of a device as long as it counts; [`Lookup::Away`]: the service has to be asked.
    pub(super) fn fresh(&self, id: &str, now_us: u64) -> Lookup {
        if let Some(entry) = self.entries.get(id)
            && now_us < entry.fetched_us + self.ttl_us
        {
            entry.used_us.store(now_us, Ordering::Relaxed);
            return self.catalog.device(id);
        }
        match self.unknown.get(id) {
            Some(&until_us) if now_us < until_us => Lookup::Unknown,
            _ => Lookup::Away,
        }
    }

    /// The last known record of a device; [`Lookup::Away`]: there is none.
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

    /// Takes a record in. The devices whose sessions must end for it.
    pub(super) fn put(&mut self, device: Device, now_us: u64, is_connected: impl Fn(&str) -> bool) -> Vec<DeviceId> {
        let id = device.id.clone();
        self.unknown.remove(&id);
        let ended = self.catalog.put_device(device);
        // Between half and four fifths of its time, so that a slow answer still comes in time, and records that were
        // fetched together are not fetched together again.
        let share = self.jitter.hash_one((&id, now_us)) % 301 + 500;
        let due_us = now_us + self.ttl_us / 1_000 * share;
        let used_us = AtomicU64::new(now_us);
        if let Some(before) = self.entries.insert(id.clone(), Entry { fetched_us: now_us, used_us, due_us }) {
            self.due.remove(&(before.due_us, id.clone()));
        }
        self.due.insert((due_us, id.clone()));
        self.make_room(&id, is_connected);
        ended
    }

    /// Takes in that there is no such device. The devices whose sessions must end for it.
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

    /// Notes that a device could not be asked for: a record that is there stays, and is asked for again soon.
    pub(super) fn postpone(&mut self, id: &DeviceId, now_us: u64) {
        let pause_us = (self.ttl_us / 20).clamp(1_000_000, 30_000_000).min(self.ttl_us / 2);
        self.set_due(id, now_us + pause_us);
    }

    /// The devices with a session whose records have to be asked for again. Records that nobody needs go.
    pub(super) fn take_due(&mut self, now_us: u64, is_connected: impl Fn(&str) -> bool) -> Vec<DeviceId> {
        let mut asked = Vec::new();
        while let Some((due_us, id)) = self.due.first().cloned() {
            if due_us > now_us {
                break;
            }
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

    /// Lets the record go that is due first, of those without a session and of another device than `newest`.
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

    fn names(ids: Vec<DeviceId>) -> Vec<String> {
        ids.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_record_and_an_unknown_id_count_for_their_time() {
        let mut cache = cache(10);
        assert_eq!(cache.fresh("device1", 0), Lookup::Away);
        cache.put(device("device1", "k"), 0, nobody);
        assert!(is_found(cache.fresh("device1", 100 * S - 1)));
        assert_eq!(cache.fresh("device1", 100 * S), Lookup::Away);
        cache.put_unknown(&id("device2"), 0);
        assert_eq!(cache.fresh("device2", 10 * S - 1), Lookup::Unknown);
        assert_eq!(cache.fresh("device2", 10 * S), Lookup::Away);
        cache.put(device("device2", "k"), 5 * S, nobody);
        assert!(is_found(cache.fresh("device2", 6 * S)));
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
        assert_eq!(cache.fresh("device1", 100 * S), Lookup::Away, "too old for a CONNECT");
    }

    #[test]
    fn the_record_of_a_device_without_a_session_goes_when_its_time_is_over() {
        let mut cache = cache(10);
        cache.put(device("device1", "k"), 0, nobody);
        assert_eq!(cache.take_due(99 * S, nobody).len(), 0);
        assert!(is_found(cache.fresh("device1", 99 * S)));
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
        assert_eq!(cache.fresh("device0", 1), Lookup::Away);
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
