//! The queue as its consumers see it: all that is stored, in order, read by the rules of docs/wire.md.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use jetlinks_bridge::protocol::uplink::{Channel, Record};

use crate::mark::{Mark, attribute};
use crate::schedule::S;
use crate::violation::Violation;

/// How often replicas write that they live.
pub(crate) const HEARTBEAT_US: u64 = 2 * S;

/// Presence of a device by the rule for consumers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Presence {
    /// The session of the last `online`.
    pub(crate) session: String,
    /// Its replica.
    pub(crate) replica: String,
    /// Whether the device is online.
    pub(crate) is_online: bool,
}

/// Where a message stands among what a consumer takes.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    position: u64,
    connection: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Store {
    position: u64,
    /// Every copy that is stored, whatever became of it.
    marks: BTreeSet<Mark>,
    /// Ids that a consumer remembers of a session.
    window: usize,
    taken: HashMap<(String, String), Taken>,
    places: BTreeMap<(usize, usize), Place>,
    presence: BTreeMap<String, Presence>,
    beats: HashMap<String, u64>,
}

impl Store {
    /// An empty queue, whose consumers remember so many ids of a session.
    pub(crate) fn new(window: usize) -> Self {
        Self {
            position: 0,
            marks: BTreeSet::new(),
            window,
            taken: HashMap::new(),
            places: BTreeMap::new(),
            presence: BTreeMap::new(),
            beats: HashMap::new(),
        }
    }

    /// Stores a record. What it gives is the session that a consumer counts as ended by it.
    pub(crate) fn store(&mut self, record: &Record, now_us: u64) -> Option<String> {
        self.position += 1;
        let envelope = std::str::from_utf8(&record.payload).expect("an envelope is UTF-8");
        if let Some(mark) = Mark::find(envelope) {
            self.marks.insert(mark);
            if record.channel == Channel::Device {
                self.take(mark, envelope);
            }
            return None;
        }
        if record.channel == Channel::Replica {
            self.beats.insert(attribute(envelope, "replicaid").to_owned(), now_us);
            return None;
        }
        let of_bridge = attribute(envelope, "origin") == "bridge";
        let (kind, session) = (attribute(envelope, "type"), attribute(envelope, "sessionid"));
        let presence = self.presence.entry(attribute(envelope, "deviceid").to_owned()).or_default();
        match kind {
            "org.jetlinks.device.online" if of_bridge => {
                let replica = attribute(envelope, "replicaid").to_owned();
                *presence = Presence { session: session.to_owned(), replica, is_online: true };
                None
            }
            "org.jetlinks.device.offline" if of_bridge && presence.session == session => {
                presence.is_online = false;
                Some(session.to_owned())
            }
            _ => None,
        }
    }

    /// Whether a copy of a message is stored: that one.
    pub(crate) fn holds(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }

    /// The session in which a device is online, by what consumers know at that time.
    pub(crate) fn online(&self, device: &str, now_us: u64) -> Option<&str> {
        let presence = self.presence.get(device)?;
        let beat_us = self.beats.get(&presence.replica).copied().unwrap_or_default();
        // Three beats in a row are missing: the replica and its sessions are gone.
        let is_alive = now_us.saturating_sub(beat_us) <= 3 * HEARTBEAT_US;
        (presence.is_online && is_alive).then_some(presence.session.as_str())
    }

    /// Judges the order of what was acknowledged to a device: `acknowledged` are the numbers of the messages that have a
    /// place in the order, rising.
    pub(crate) fn check_order(&self, device: usize, acknowledged: &[usize]) -> Result<(), Violation> {
        let mut latest = (0, 0);
        for &number in acknowledged {
            let Some(place) = self.places.get(&(device, number)) else {
                return Err(Violation::Lost(format!("message {number} of device {device}")));
            };
            if place.position < latest.0 {
                let text = format!("message {} of device {device} is taken before message {number}", latest.1);
                return Err(Violation::Order(text));
            }
            latest = (place.position, number);
        }
        Ok(())
    }

    fn take(&mut self, mark: Mark, envelope: &str) {
        let key = (attribute(envelope, "sessionid").to_owned(), attribute(envelope, "deviceid").to_owned());
        let is_taken = self.taken.entry(key).or_default().take(attribute(envelope, "id"), self.window);
        let place = self.places.entry((mark.device, mark.number)).or_default();
        // Of a message that was sent again on a later connection the copies of that one count.
        if is_taken && mark.connection >= place.connection {
            *place = Place { position: self.position, connection: mark.connection };
        }
    }
}

/// Memory of a consumer about one device in one session: the rule of docs/wire.md, "Order and duplicates".
#[derive(Debug, Default)]
struct Taken {
    /// Rising.
    ids: VecDeque<String>,
    cut: Option<String>,
}

impl Taken {
    fn take(&mut self, id: &str, window: usize) -> bool {
        if self.cut.as_deref().is_some_and(|cut| id <= cut) || self.ids.iter().any(|taken| taken == id) {
            return false;
        }
        self.ids.retain(|taken| taken.as_str() < id);
        self.ids.push_back(id.to_owned());
        if self.ids.len() > window {
            self.cut = self.ids.pop_front();
        }
        true
    }
}
