//! Requests that were seen, so that a duplicate is answered again and does nothing again (RFC 7252 section 4.5).
//!
//! Only what a second time would do harm is remembered: requests that are open, and answers of what was written. Bounded
//! for each peer and in all. Where all is full, peers that were silent since the hand came by last forget first, so a
//! peer that floods pushes out itself and the silent, not who is in the middle of an exchange.

use std::collections::{HashMap, VecDeque};

use super::PeerKey;
use super::exchange::Ticket;
use super::timing::EXCHANGE_LIFETIME_US;
use crate::codec::coap::MessageToken;

/// Ticks in which every peer is looked at once.
const TICKS_PER_ROUND: usize = 128;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sighting {
    /// It is open.
    Open(Ticket),
    /// It was answered with this datagram.
    Answered(Box<[u8]>),
    /// It got an empty ACK, and then this datagram.
    AnsweredApart(Box<[u8]>),
}

/// Which request of a peer. A client that begins anew may use a message id again: then its token tells.
pub(super) type RequestKey = (u16, MessageToken);

#[derive(Debug)]
struct Entry {
    key: RequestKey,
    at_us: u64,
    sighting: Sighting,
}

impl Entry {
    fn is_open(&self) -> bool {
        matches!(self.sighting, Sighting::Open(_))
    }
}

#[derive(Debug)]
struct Peer {
    key: PeerKey,
    /// In the order of their times.
    entries: VecDeque<Entry>,
    open: usize,
    /// Whether it was heard again since the hand came by. Not so at first: else a flood of new peers would make all alike.
    heard: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Seen {
    places: HashMap<PeerKey, u32>,
    peers: Vec<Option<Peer>>,
    free: Vec<u32>,
    /// Where the next look for something to forget begins.
    hand: usize,
    len: usize,
    max: usize,
    per_peer_max: usize,
    open_per_peer_max: usize,
}

impl Seen {
    pub(super) fn new(max: usize, per_peer_max: usize, open_per_peer_max: usize) -> Self {
        Self {
            places: HashMap::new(),
            peers: Vec::new(),
            free: Vec::new(),
            hand: 0,
            len: 0,
            max,
            per_peer_max: per_peer_max.max(open_per_peer_max),
            open_per_peer_max,
        }
    }

    /// Requests remembered.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Peers of which something is remembered.
    pub(super) fn peers(&self) -> usize {
        self.places.len()
    }

    /// What became of the request; `None` when it was not seen, or so long ago that its id may be used again.
    pub(super) fn find(&mut self, peer: PeerKey, key: RequestKey, now_us: u64) -> Option<&Sighting> {
        let peer = self.peer(peer)?;
        peer.heard = true;
        let entry = peer.entries.iter().rev().find(|entry| entry.key == key)?;
        (entry.is_open() || entry.at_us + EXCHANGE_LIFETIME_US > now_us).then_some(&entry.sighting)
    }

    /// The open request with that message id, whatever its token.
    pub(super) fn open_with_id(&mut self, peer: PeerKey, id: u16) -> impl Iterator<Item = Ticket> {
        let entries = self.peer(peer).into_iter().flat_map(|peer| &peer.entries);
        entries.filter(move |entry| entry.key.0 == id).filter_map(|entry| match entry.sighting {
            Sighting::Open(ticket) => Some(ticket),
            _ => None,
        })
    }

    /// Remembers that the request is open; whether there was room.
    pub(super) fn open(&mut self, peer: PeerKey, key: RequestKey, ticket: Ticket, now_us: u64) -> bool {
        let (per_peer_max, open_max) = (self.per_peer_max, self.open_per_peer_max);
        if let Some(known) = self.peer(peer) {
            if known.open >= open_max {
                return false;
            }
            let mut gone = 0;
            if let Some(at) = known.entries.iter().position(|entry| entry.key == key && !entry.is_open()) {
                known.entries.remove(at);
                gone = 1;
            } else if known.entries.len() >= per_peer_max
                && let Some(oldest) = known.entries.iter().position(|entry| !entry.is_open())
            {
                known.entries.remove(oldest);
                gone = 1;
            }
            self.len -= gone;
        }
        if self.len >= self.max && !self.make_room() {
            return false;
        }
        let entry = Entry { key, at_us: now_us, sighting: Sighting::Open(ticket) };
        self.len += 1;
        if let Some(known) = self.peer(peer) {
            known.entries.push_back(entry);
            known.open += 1;
            return true;
        }
        let mut entries = VecDeque::with_capacity(1);
        entries.push_back(entry);
        let new = Some(Peer { key: peer, entries, open: 1, heard: false });
        let place = match self.free.pop() {
            Some(place) => {
                self.peers[place as usize] = new;
                place
            }
            None => {
                self.peers.push(new);
                u32::try_from(self.peers.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.places.insert(peer, place);
        true
    }

    /// Remembers a request that was answered at once, if there is room.
    pub(super) fn note(&mut self, peer: PeerKey, key: RequestKey, answer: Vec<u8>, now_us: u64) {
        // No exchange has this ticket.
        let none = Ticket { slot: u32::MAX, generation: 0 };
        if self.open(peer, key, none, now_us) {
            self.close(peer, key, none, Some(Sighting::Answered(answer.into())));
        }
    }

    /// Notes the end of an open request: what a duplicate gets, or `None` to treat it as new.
    pub(super) fn close(&mut self, peer: PeerKey, key: RequestKey, ticket: Ticket, answer: Option<Sighting>) {
        let Some(known) = self.peer(peer) else { return };
        let is_meant = |entry: &Entry| entry.key == key && entry.sighting == Sighting::Open(ticket);
        let Some(at) = known.entries.iter().position(is_meant) else { return };
        known.open -= 1;
        match answer {
            Some(sighting) => known.entries[at].sighting = sighting,
            None => {
                known.entries.remove(at);
                let empty = known.entries.is_empty();
                self.len -= 1;
                if empty {
                    self.remove(peer);
                }
            }
        }
    }

    /// Forgets a peer; its open requests.
    pub(super) fn forget(&mut self, peer: PeerKey) -> Vec<Ticket> {
        let Some(known) = self.remove(peer) else { return Vec::new() };
        self.len -= known.entries.len();
        let open = known.entries.into_iter().filter_map(|entry| match entry.sighting {
            Sighting::Open(ticket) => Some(ticket),
            _ => None,
        });
        open.collect()
    }

    /// Forgets what is too old, of some of the peers.
    pub(super) fn sweep(&mut self, now_us: u64) {
        for _ in 0..self.peers.len().div_ceil(TICKS_PER_ROUND) {
            self.hand = (self.hand + 1) % self.peers.len();
            let Some(peer) = &mut self.peers[self.hand] else { continue };
            peer.heard = false;
            let before = peer.entries.len();
            peer.entries.retain(|entry| entry.is_open() || entry.at_us + EXCHANGE_LIFETIME_US > now_us);
            self.len -= before - peer.entries.len();
            let key = peer.key;
            if peer.entries.is_empty() {
                self.remove(key);
            }
        }
    }

    /// Forgets the answers of a silent peer; whether there was one.
    fn make_room(&mut self) -> bool {
        for _ in 0..2 * self.peers.len() {
            self.hand = (self.hand + 1) % self.peers.len();
            let Some(peer) = &mut self.peers[self.hand] else { continue };
            if std::mem::take(&mut peer.heard) {
                continue;
            }
            let before = peer.entries.len();
            peer.entries.retain(Entry::is_open);
            let gone = before - peer.entries.len();
            self.len -= gone;
            let key = peer.key;
            if peer.entries.is_empty() {
                self.remove(key);
            }
            if gone > 0 {
                return true;
            }
        }
        false
    }

    fn peer(&mut self, peer: PeerKey) -> Option<&mut Peer> {
        let place = *self.places.get(&peer)?;
        self.peers.get_mut(place as usize)?.as_mut()
    }

    fn remove(&mut self, peer: PeerKey) -> Option<Peer> {
        let place = self.places.remove(&peer)?;
        self.free.push(place);
        self.peers.get_mut(place as usize)?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(slot: u32) -> Ticket {
        Ticket { slot, generation: 0 }
    }

    fn key(id: u16) -> RequestKey {
        (id, MessageToken::default())
    }

    fn answer(seen: &mut Seen, peer: u64, id: u16, now_us: u64) {
        let peer = PeerKey::Session(peer);
        assert!(seen.open(peer, key(id), ticket(7), now_us));
        seen.close(peer, key(id), ticket(7), Some(Sighting::Answered([1].into())));
    }

    fn knows(seen: &mut Seen, peer: u64, id: u16, now_us: u64) -> bool {
        seen.find(PeerKey::Session(peer), key(id), now_us).is_some()
    }

    #[test]
    fn an_answer_is_remembered_for_the_lifetime_of_its_exchange() {
        let mut seen = Seen::new(10, 5, 5);
        answer(&mut seen, 1, 1, 0);
        assert!(knows(&mut seen, 1, 1, EXCHANGE_LIFETIME_US - 1));
        assert!(!knows(&mut seen, 1, 1, EXCHANGE_LIFETIME_US));
        assert!(!knows(&mut seen, 2, 1, 0));
        assert_eq!(seen.find(PeerKey::Session(1), (1, MessageToken::new(b"x").expect("short")), 0), None);
        for _ in 0..TICKS_PER_ROUND {
            seen.sweep(EXCHANGE_LIFETIME_US);
        }
        assert_eq!((seen.len(), seen.peers()), (0, 0));
    }

    #[test]
    fn each_peer_and_all_of_them_are_bounded_and_who_speaks_is_remembered() {
        let mut seen = Seen::new(100, 5, 5);
        for id in 0..1000 {
            answer(&mut seen, 1, id, 0);
        }
        assert_eq!(seen.len(), 5);
        assert!(knows(&mut seen, 1, 999, 0) && !knows(&mut seen, 1, 994, 0));
        for peer in 2..5000 {
            answer(&mut seen, peer, 1, 0);
            assert!(seen.len() <= 100);
            if peer % 20 == 0 {
                assert!(knows(&mut seen, 1, 999, 0), "a peer that speaks was forgotten for silent ones");
            }
        }
        assert!(seen.peers() <= 96);
        assert!(seen.peers.len() <= 200);
    }

    #[test]
    fn open_requests_are_never_forgotten_and_bounded_on_their_own() {
        let mut seen = Seen::new(10, 5, 3);
        let peer = PeerKey::Session(1);
        for id in 0..3 {
            assert!(seen.open(peer, key(id), ticket(id.into()), 0));
        }
        assert!(!seen.open(peer, key(3), ticket(3), 0), "one more than may be open");
        for other in 2..5 {
            for id in 0..3 {
                let expected = seen.len() < 10;
                assert_eq!(seen.open(PeerKey::Session(other), key(id), ticket(9), 0), expected);
            }
        }
        assert_eq!(seen.find(peer, key(0), u64::MAX / 2), Some(&Sighting::Open(ticket(0))));
        seen.close(peer, key(1), ticket(8), None);
        assert_eq!(seen.open_with_id(peer, 1).collect::<Vec<_>>(), [ticket(1)], "closed by another ticket");
        seen.close(peer, key(1), ticket(1), None);
        assert_eq!(seen.find(peer, key(1), 0), None);
        assert_eq!(seen.forget(peer), [ticket(0), ticket(2)]);
        assert_eq!(seen.len(), 7);
    }
}
