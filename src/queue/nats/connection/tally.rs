//! Counts of the connections to NATS, by role.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Part that a connection plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionRole {
    /// Messages of devices.
    Uplink,
    /// Commands, and their outcomes.
    Commands,
    /// Claims of replicas.
    Coordination,
    /// Commands from Kafka for devices of other replicas.
    HandOver,
    /// Records of devices.
    Registry,
}

impl ConnectionRole {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::Uplink, Self::Commands, Self::Coordination, Self::HandOver, Self::Registry];

    /// Name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uplink => "uplink",
            Self::Commands => "commands",
            Self::Coordination => "coordination",
            Self::HandOver => "hand_over",
            Self::Registry => "registry",
        }
    }
}

/// Counts of one role.
#[derive(Debug, Default)]
struct Tally {
    is_used: AtomicBool,
    connected: AtomicU64,
    reconnects: AtomicU64,
    slow_consumer: AtomicU64,
}

/// A look at the counts of one role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Connections that are up; `None` where the role has no connection at all.
    pub connected: Option<u64>,
    /// Times that one was made again.
    pub reconnects: u64,
    /// Times that a server ended one as it read too slowly.
    pub slow_consumer: u64,
}

/// Counts of all connections that share them, by role. Clones are the same counts, and all are equal: counts are no setting.
#[derive(Debug, Clone, Default)]
pub struct ConnectionTallies(Arc<[Tally; ConnectionRole::ALL.len()]>);

impl PartialEq for ConnectionTallies {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for ConnectionTallies {}

impl ConnectionTallies {
    /// The counts of a role at this moment.
    pub fn of(&self, role: ConnectionRole) -> ConnectionCounts {
        let tally = self.tally(role);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ConnectionCounts {
            connected: tally.is_used.load(Ordering::Relaxed).then(|| read(&tally.connected)),
            reconnects: read(&tally.reconnects),
            slow_consumer: read(&tally.slow_consumer),
        }
    }

    /// Notes that there is a connection of that role, up or not.
    pub(super) fn expect(&self, role: ConnectionRole) {
        self.tally(role).is_used.store(true, Ordering::Relaxed);
    }

    /// Notes that a connection is up.
    pub(super) fn connected(&self, role: ConnectionRole) {
        self.tally(role).connected.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a connection that was up once is up again.
    pub(super) fn reconnected(&self, role: ConnectionRole) {
        self.tally(role).reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes that a connection which was up is not.
    pub(super) fn lost(&self, role: ConnectionRole) {
        self.tally(role).connected.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a server ended a connection as it read too slowly.
    pub(super) fn slow_consumer(&self, role: ConnectionRole) {
        self.tally(role).slow_consumer.fetch_add(1, Ordering::Relaxed);
    }

    fn tally(&self, role: ConnectionRole) -> &Tally {
        &self.0[role as usize]
    }
}
