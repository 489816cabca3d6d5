//! A place where a replica runs, one incarnation after the other, with its connections to the queue and to the server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use jetlinks_bridge::protocol::limit::{Limits, Now};
use jetlinks_bridge::protocol::uplink::{Availability, Report};

use crate::callers::DownlinkState;
use crate::random::Random;
use crate::replica::Replica;
use crate::schedule::{MS, S};
use crate::uplink::{Acknowledging, Conditions, RecordQueue};

/// The time at which runs begin, ms since 1970.
pub(crate) const START_MS: u64 = 1_795_338_000_000;

/// Bounds of every worker: small, so that runs meet them.
pub(crate) const LIMITS: Limits = Limits {
    packet_bytes: 1024,
    inflight_per_connection: 8,
    inflight_bytes: 64 * 1024,
    ack_timeout_us: 10 * S,
    keep_alive_max_us: 1_200 * S,
    command_timeout_ms: 5_000,
    command_timeout_max_ms: 60_000,
    commands_per_device: 3,
    commands: 8,
};

/// The queue as usual.
pub(crate) const FAIR: Conditions = Conditions { lost: 0, untold: 0, delay_us: (MS / 10, 5 * MS) };

/// A worker, in one incarnation of the replica at that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    pub(crate) node: usize,
    pub(crate) worker: usize,
    pub(crate) incarnation: u64,
}

/// One worker, with its links.
pub(crate) struct Links {
    pub(crate) records: Rc<RefCell<RecordQueue>>,
    pub(crate) downlink_state: Rc<RefCell<DownlinkState>>,
    /// When the last command, and the last turn of a record comes: each kind comes in order, us.
    pub(crate) command_us: u64,
    pub(crate) turn_us: u64,
    /// Nothing moves on the way to the queue.
    pub(crate) is_stuck: bool,
    /// Since when the queue takes and acknowledges everything, us.
    pub(crate) fair_us: u64,
    pub(crate) report: Report,
}

/// See the module.
pub(crate) struct Node {
    /// How often a replica has begun here.
    pub(crate) incarnation: u64,
    /// `None` while it is dead.
    pub(crate) replica: Option<Replica>,
    /// Of its workers.
    pub(crate) links: Vec<Links>,
    /// Its clock is ahead of that of the world, ms.
    ahead_ms: u64,
    /// It stands still until then.
    pub(crate) frozen_until_us: Option<u64>,
    /// It shuts down.
    pub(crate) is_draining: bool,
    /// Its connection to the server of claims and commands is lost.
    pub(crate) is_cut: bool,
    /// Claims from here, and to here, stand still until then, us.
    pub(crate) stalled_until_us: [u64; 2],
    /// When the last claim comes, us.
    pub(crate) claim_us: u64,
    /// Its parts will look at what they tell each other.
    pub(crate) reads_messages: bool,
    /// By device, until when it may not have said yet that presence which was stored from here came late, us.
    pub(crate) untold_us: BTreeMap<String, u64>,
}

impl Node {
    /// A place without a replica.
    pub(crate) fn new(ahead_ms: u64) -> Self {
        Self {
            incarnation: 0,
            replica: None,
            links: Vec::new(),
            ahead_ms,
            frozen_until_us: None,
            is_draining: false,
            is_cut: true,
            stalled_until_us: [0; 2],
            claim_us: 0,
            reads_messages: false,
            untold_us: BTreeMap::new(),
        }
    }

    /// Its clocks. That which never goes back counts from a start of its own.
    pub(crate) fn now(&self, index: usize, now_us: u64) -> Now {
        Now { unix_ms: START_MS + self.ahead_ms + now_us / MS, us: now_us + (index as u64 + 1) * 777_777_777 }
    }

    /// A replica begins.
    pub(crate) fn begin(&mut self, index: usize, workers: usize, acknowledging: Acknowledging, random: &mut Random) {
        *self = Self { incarnation: self.incarnation + 1, claim_us: self.claim_us, ..Self::new(self.ahead_ms) };
        let links = || Links {
            records: Rc::new(RefCell::new(RecordQueue::new(acknowledging, FAIR))),
            downlink_state: Rc::default(),
            command_us: 0,
            turn_us: 0,
            is_stuck: false,
            fair_us: 0,
            report: Report { availability: Availability::Starting, epoch: 0, wants_heartbeat: false },
        };
        self.links.resize_with(workers, links);
        let id = format!("replica{}-{}", index + 1, self.incarnation);
        self.replica = Some(Replica::new(&id, random.between(0, u64::MAX - 1), &self.links, LIMITS));
    }
}
