//! The limits of connections, and whether new ones are served at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Connections above the limit that are still accepted, to be told 0x03 in good order; further ones are closed at once.
const OVERFLOW: usize = 1_000;

/// Sockets of devices over TCP that the process may have open. Those that are still being closed count, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketBounds {
    /// As many may ask for a session.
    pub served: usize,
    /// As many may be open; those above `served` are told 0x03.
    pub open: usize,
}

impl SocketBounds {
    /// Of that many open ones a tenth, at most as many as are told 0x03 above the limit of connections, is never served.
    pub fn new(open: usize) -> Self {
        Self { served: open - (open / 10).clamp(1, OVERFLOW).min(open), open }
    }
}

/// Shared by all workers.
#[derive(Debug)]
pub struct ConnectionLimit {
    connections_max: usize,
    sockets_max: SocketBounds,
    connections: AtomicUsize,
    /// Peers below DTLS that have shown no credential. They fill what connections leave, and make room for them.
    unproven: AtomicUsize,
    sockets: AtomicUsize,
    draining: AtomicBool,
}

/// Decision about a connection at the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may ask for a session.
    Admitted,
    /// It may ask, and gets 0x03.
    Full,
    /// It is closed without a word.
    Rejected,
}

impl ConnectionLimit {
    /// A gate for at most that many connections, of which those over TCP have so many sockets.
    pub fn new(connections_max: usize, sockets_max: SocketBounds) -> Self {
        Self {
            connections_max,
            sockets_max,
            connections: AtomicUsize::new(0),
            unproven: AtomicUsize::new(0),
            sockets: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
        }
    }

    /// Counts a connection in; [`ConnectionLimit::leave`] must follow, whatever the answer.
    pub fn enter(&self) -> Admission {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        if before < self.connections_max {
            Admission::Admitted
        } else if before < self.connections_max.saturating_add(OVERFLOW) {
            Admission::Full
        } else {
            Admission::Rejected
        }
    }

    /// Counts a connection out.
    pub fn leave(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a peer in that has shown no credential; false, and it is not counted, when there is no room.
    /// [`ConnectionLimit::leave_unproven`] must follow, or [`ConnectionLimit::prove`] that counts it.
    pub fn enter_unproven(&self) -> bool {
        let before = self.unproven.fetch_add(1, Ordering::Relaxed);
        let has_room = before.saturating_add(self.connections.load(Ordering::Relaxed)) < self.connections_max;
        if !has_room {
            self.leave_unproven();
        }
        has_room
    }

    /// Counts a peer out that has shown no credential.
    pub fn leave_unproven(&self) {
        self.unproven.fetch_sub(1, Ordering::Relaxed);
    }

    /// Makes a connection of a peer that has shown its credential now; false, and it stays what it is, when there are as
    /// many as there may be.
    pub fn prove(&self) -> bool {
        let has_room = self.enter() == Admission::Admitted;
        if has_room {
            self.leave_unproven()
        } else {
            self.leave()
        }
        has_room
    }

    /// Peers that must go, of those that have shown no credential: a connection took their place.
    pub fn excess(&self) -> usize {
        let unproven = self.unproven.load(Ordering::Relaxed);
        let all = unproven.saturating_add(self.connections.load(Ordering::Relaxed));
        all.saturating_sub(self.connections_max).min(unproven)
    }

    /// Percent of the connections that may be there, or of the sockets that may be served, whichever are more; above 100 where
    /// further ones are told that there are too many.
    pub fn used_percent(&self) -> usize {
        let percent = |count: &AtomicUsize, max: usize| count.load(Ordering::Relaxed).saturating_mul(100) / max.max(1);
        percent(&self.connections, self.connections_max).max(percent(&self.sockets, self.sockets_max.served))
    }

    /// Closes the gate for good: the replica shuts down.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the replica shuts down.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// The socket of a connection over TCP, from accepting it until it is closed; given back when dropped.
#[derive(Debug)]
pub struct SocketPermit {
    connection_limit: Arc<ConnectionLimit>,
    is_served: bool,
}

impl SocketPermit {
    /// Counts a socket in; `None`: there are too many, and it must be closed.
    pub fn take(connection_limit: &Arc<ConnectionLimit>) -> Option<Self> {
        let before = connection_limit.sockets.fetch_add(1, Ordering::Relaxed);
        let permit = Self {
            connection_limit: connection_limit.clone(),
            is_served: before < connection_limit.sockets_max.served,
        };
        (before < connection_limit.sockets_max.open).then_some(permit)
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        self.connection_limit.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection within the limit, given back when dropped, whatever became of the connection.
#[derive(Debug)]
pub struct ConnectionPermit {
    connection_limit: Arc<ConnectionLimit>,
    /// The decision about the connection.
    pub admission: Admission,
}

impl ConnectionPermit {
    /// Counts the connection of a socket in.
    pub fn take(permit: &SocketPermit) -> Self {
        let admission = match permit.connection_limit.enter() {
            Admission::Admitted if !permit.is_served => Admission::Full,
            admission => admission,
        };
        Self { connection_limit: permit.connection_limit.clone(), admission }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.connection_limit.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_the_limit_a_connection_is_told_and_far_above_it_is_closed() {
        let connection_limit = ConnectionLimit::new(1, SocketBounds::new(usize::MAX));
        assert_eq!(connection_limit.enter(), Admission::Admitted);
        assert_eq!(connection_limit.enter(), Admission::Full);
        for _ in 2..=OVERFLOW {
            connection_limit.enter();
        }
        assert_eq!(connection_limit.enter(), Admission::Rejected);
        for _ in 0..OVERFLOW + 2 {
            connection_limit.leave();
        }
        assert_eq!(connection_limit.enter(), Admission::Admitted);
    }

    #[test]
    fn what_is_used_counts_connections_and_sockets_whichever_are_nearer_to_their_limit() {
        let connection_limit = Arc::new(ConnectionLimit::new(8, SocketBounds { served: 4, open: 5 }));
        assert_eq!(connection_limit.used_percent(), 0);
        connection_limit.enter();
        assert_eq!(connection_limit.used_percent(), 12);
        let sockets: Vec<_> = (0..5).filter_map(|_| SocketPermit::take(&connection_limit)).collect();
        assert_eq!(connection_limit.used_percent(), 125);
        drop(sockets);
        assert_eq!(connection_limit.used_percent(), 12);
        let bare = ConnectionLimit::new(usize::MAX, SocketBounds::new(0));
        bare.enter();
        assert_eq!(bare.used_percent(), 0);
    }

    #[test]
    fn who_has_shown_no_credential_makes_room_for_every_connection_and_takes_none() {
        let connection_limit = ConnectionLimit::new(2, SocketBounds::new(0));
        assert!(
            connection_limit.enter_unproven()
                && connection_limit.enter_unproven()
                && !connection_limit.enter_unproven()
        );
        assert_eq!((connection_limit.enter(), connection_limit.excess()), (Admission::Admitted, 1));
        connection_limit.leave_unproven();
        assert!(!connection_limit.enter_unproven() && connection_limit.prove() && !connection_limit.enter_unproven());
        assert_eq!((connection_limit.enter(), connection_limit.excess()), (Admission::Full, 0));
        connection_limit.leave();
        connection_limit.leave();
        assert!(connection_limit.enter_unproven());
        assert_eq!((connection_limit.enter(), connection_limit.excess()), (Admission::Admitted, 1));
        assert!(!connection_limit.prove());
        connection_limit.leave();
        assert!(connection_limit.prove());
    }

    #[test]
    fn sockets_above_their_bound_are_told_and_at_the_last_one_closed() {
        assert_eq!(SocketBounds::new(0), SocketBounds { served: 0, open: 0 });
        assert_eq!(SocketBounds::new(1), SocketBounds { served: 0, open: 1 });
        assert_eq!(SocketBounds::new(20), SocketBounds { served: 18, open: 20 });
        assert_eq!(SocketBounds::new(1_000_000), SocketBounds { served: 999_000, open: 1_000_000 });
        let connection_limit = Arc::new(ConnectionLimit::new(100, SocketBounds { served: 1, open: 2 }));
        let admission = |permit: &SocketPermit| ConnectionPermit::take(permit).admission;
        let first = SocketPermit::take(&connection_limit).expect("there is room");
        let second = SocketPermit::take(&connection_limit).expect("there is room");
        assert_eq!((admission(&first), admission(&second)), (Admission::Admitted, Admission::Full));
        assert!(SocketPermit::take(&connection_limit).is_none() && SocketPermit::take(&connection_limit).is_none());
        drop(first);
        let third = SocketPermit::take(&connection_limit).expect("one is closed");
        assert_eq!(admission(&third), Admission::Full);
        drop((second, third));
        assert_eq!(SocketPermit::take(&connection_limit).map(|permit| admission(&permit)), Some(Admission::Admitted));
    }
}
