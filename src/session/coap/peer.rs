//! Peers of an endpoint, and datagrams for them.

use std::fmt;
use std::net::SocketAddr;

/// The other end of an exchange, as the transport tells its peers apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerKey {
    /// A UDP address.
    Address(SocketAddr),
    /// A DTLS session; a number that no later session gets again.
    Session(u64),
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerKey::Address(address) => address.fmt(f),
            PeerKey::Session(number) => write!(f, "DTLS session {number}"),
        }
    }
}

/// Datagrams to be sent, in their order. Keeps its buffers from one batch to the next.
#[derive(Debug, Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    ends: Vec<(PeerKey, usize)>,
}

impl Outbox {
    /// Adds a datagram.
    pub fn push(&mut self, peer: PeerKey, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.ends.push((peer, self.bytes.len()));
    }

    /// The datagrams.
    pub fn iter(&self) -> impl Iterator<Item = (PeerKey, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |(peer, end)| {
            let datagram = &self.bytes[start..*end];
            start = *end;
            (*peer, datagram)
        })
    }

    /// Whether it holds no datagram.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Removes all datagrams.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_keep_their_order_and_their_bounds() {
        let mut outbox = Outbox::default();
        let [a, b] = [PeerKey::Session(1), PeerKey::Session(2)];
        outbox.push(a, b"one");
        outbox.push(b, b"");
        outbox.push(a, b"three");
        let expected: [(PeerKey, &[u8]); 3] = [(a, b"one"), (b, b""), (a, b"three")];
        assert!(outbox.iter().eq(expected));
        outbox.clear();
        assert!(outbox.is_empty());
    }
}
