//! Deduplication: a request that came before is answered again and has no other effect (RFC 7252 section 4.5).
//!
//! A duplicate has the same peer and the same bytes. Message id and token alone do not make one: a device that restarts
//! uses the same ids and tokens again, for other requests.
//!
//! Only open requests are remembered, and the answers to messages that were written: any other request may be handled twice
//! without harm. Both are bounded for each peer and in all. When the table is full, the CLOCK algorithm evicts: a hand goes
//! round all peers, and a peer that sent nothing since the hand last passed it loses its answers. So a peer that floods
//! evicts itself and silent peers, not one in the middle of an exchange.

use std::collections::{HashMap, VecDeque};

use super::PeerKey;
use super::fingerprint::Fingerprint;
use crate::codec::coap::MessageToken;
use crate::protocol::uplink::SlotId;

/// EXCHANGE_LIFETIME (RFC 7252 section 4.8.2), us: after it no copy of a message is on its way any more, so its id may name
/// another.
const EXCHANGE_LIFETIME_US: u64 = 247_000_000;

/// Ticks in which the hand goes round all peers once.
const TICKS_PER_ROUND: usize = 128;

/// Most capacity of a peer's buffers after each round, as a multiple of their length.
const SPARE: usize = 4;

/// State of a remembered request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestState {
    /// It is open.
    Open(SlotId),
    /// It was answered with this datagram.
    Answered(Box<[u8]>),
    /// It got an empty ACK, and then this datagram as a separate response.
    AnsweredSeparately(Box<[u8]>),
    /// It was a block of an upload.
    Block,
}

/// Key of a request of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestKey {
    /// Its message id.
    pub(super) id: u16,
    pub(super) token: MessageToken,
    /// Fingerprint of its bytes, id and token included.
    pub(super) fingerprint: Fingerprint,
}

/// Result of the search for a request among those of its peer.
#[derive(Debug)]
pub(super) enum Lookup<'a> {
    /// It came before.
    Same(&'a Entry),
    /// Its message id and token were used for another request.
    Reused,
    /// Neither, or longer ago than the lifetime of an exchange.
    New,
}

impl RequestKey {
    /// Whether an answer to one of the two may be taken for an answer to the other.
    pub(super) fn is_like(&self, other: &RequestKey) -> bool {
        (self.id, self.token) == (other.id, other.token)
    }

    /// 48 bits of the fingerprint and the message id: enough to know the request by.
    fn mark(&self) -> u64 {
        self.fingerprint << 16 | u64::from(self.id)
    }
}

/// Context of a request: its upload, and whether its peer has restarted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// Number of the upload that it is a block of; 0 for none.
    pub(super) upload: u32,
    /// Whether its message id and token named another request before: the peer has restarted.
    pub(super) is_restart: bool,
}

/// A remembered request.
#[derive(Debug)]
pub(super) struct Entry {
    token: MessageToken,
    // The origin lies in it field by field, so that it has 48 bytes.
    pub(super) upload: u32,
    is_restart: bool,
    pub(super) at_us: u64,
    pub(super) state: RequestState,
}

impl Entry {
    fn new(key: RequestKey, origin: Origin, at_us: u64, state: RequestState) -> Self {
        let Origin { upload, is_restart } = origin;
        Self { token: key.token, upload, is_restart, at_us, state }
    }

    fn is_open(&self) -> bool {
        matches!(self.state, RequestState::Open(_))
    }

    /// Whether a copy of the request may still be on its way.
    fn is_current(&self, now_us: u64) -> bool {
        self.is_open() || self.at_us + EXCHANGE_LIFETIME_US > now_us
    }
}

#[derive(Debug)]
struct Peer {
    key: PeerKey,
    /// Its requests, in the order of their times.
    entries: VecDeque<Entry>,
    /// [`RequestKey::mark`] of each entry: every request is compared with all of them, so they lie side by side.
    marks: VecDeque<u64>,
    open: usize,
    /// Message id of its next answer that does not travel in an ACK.
    next_id: u16,
    /// Reference bit of the CLOCK algorithm: whether the peer sent anything since the hand last passed it. Not set at first:
    /// else a flood of new peers would make all alike.
    heard: bool,
}

impl Peer {
    fn new(key: PeerKey, first: RequestKey) -> Self {
        // Any 16 bits of a keyed hash are as good as random ones.
        let next_id = first.fingerprint as u16;
        let (entries, marks) = (VecDeque::with_capacity(1), VecDeque::with_capacity(1));
        Self { key, entries, marks, open: 0, next_id, heard: false }
    }

    fn look(&self, key: RequestKey, now_us: u64) -> Lookup<'_> {
        let mark = key.mark();
        let mut look = Lookup::New;
        for (mark_of_entry, entry) in self.marks.iter().zip(&self.entries).rev() {
            if (mark ^ mark_of_entry) & 0xffff != 0 {
                continue;
            }
            if mark == *mark_of_entry {
                // Entries before it are older: they have expired if it has.
                return if entry.is_current(now_us) { Lookup::Same(entry) } else { look };
            }
            if entry.token == key.token && entry.is_current(now_us) {
                look = Lookup::Reused;
            }
        }
        look
    }

    fn push(&mut self, key: RequestKey, entry: Entry) {
        self.open += usize::from(entry.is_open());
        self.entries.push_back(entry);
        self.marks.push_back(key.mark());
    }

    /// Removes the entry at that index, if there is one.
    fn remove(&mut self, at: usize) {
        self.entries.remove(at);
        self.marks.remove(at);
    }

    /// Removes the entries that are not wanted; returns their number.
    fn retain(&mut self, is_wanted: impl Fn(&Entry) -> bool) -> usize {
        let before = self.entries.len();
        let mut wanted = self.entries.iter().map(&is_wanted);
        self.marks.retain(|_| wanted.next().unwrap_or_default());
        self.entries.retain(is_wanted);
        // A peer that sent much once must not keep the room for it as long as it sends anything.
        if self.entries.capacity() > SPARE * self.entries.len() {
            self.entries.shrink_to_fit();
            self.marks.shrink_to_fit();
        }
        before - self.entries.len()
    }
}

/// Remembered requests of all peers.
#[derive(Debug)]
pub(super) struct RecentRequests {
    places: HashMap<PeerKey, u32>,
    peers: Vec<Option<Peer>>,
    free: Vec<u32>,
    /// Hand of the CLOCK algorithm: index of the peer that it passed last.
    clock_hand: usize,
    len: usize,
    max: usize,
    per_peer_max: usize,
    open_per_peer_max: usize,
}

impl RecentRequests {
    pub(super) fn new(max: usize, per_peer_max: usize, open_per_peer_max: usize) -> Self {
        Self {
            places: HashMap::new(),
            peers: Vec::new(),
            free: Vec::new(),
            clock_hand: 0,
            len: 0,
            max,
            per_peer_max: per_peer_max.max(open_per_peer_max),
            open_per_peer_max,
        }
    }

    /// Number of remembered requests.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Number of peers with remembered requests.
    pub(super) fn peers(&self) -> usize {
        self.places.len()
    }

    /// Searches for a request, in one pass over those of its peer.
    pub(super) fn look(&mut self, peer: PeerKey, key: RequestKey, now_us: u64) -> Lookup<'_> {
        let Some(peer) = self.peer(peer) else { return Lookup::New };
        peer.heard = true;
        peer.look(key, now_us)
    }

    /// The remembered request, unless the lifetime of its exchange is over.
    pub(super) fn find(&mut self, peer: PeerKey, key: RequestKey, now_us: u64) -> Option<&Entry> {
        match self.look(peer, key, now_us) {
            Lookup::Same(entry) => Some(entry),
            Lookup::Reused | Lookup::New => None,
        }
    }

    /// Whether the peer has restarted since then.
    pub(super) fn has_restarted(&mut self, peer: PeerKey, since_us: u64) -> bool {
        let is_restart = |entry: &Entry| entry.is_restart && entry.at_us > since_us;
        self.peer(peer).is_some_and(|peer| peer.entries.iter().any(is_restart))
    }

    /// The open requests of a peer.
    pub(super) fn open_of(&mut self, peer: PeerKey) -> impl Iterator<Item = SlotId> {
        let entries = self.peer(peer).into_iter().flat_map(|peer| &peer.entries);
        entries.filter_map(|entry| match entry.state {
            RequestState::Open(exchange) => Some(exchange),
            _ => None,
        })
    }

    /// A message id for an answer that does not travel in an ACK; `None` for a peer of which nothing is remembered.
    pub(super) fn next_id(&mut self, peer: PeerKey) -> Option<u16> {
        let peer = self.peer(peer)?;
        peer.next_id = peer.next_id.wrapping_add(1);
        Some(peer.next_id)
    }

    /// Remembers an open request; returns whether there was room.
    pub(super) fn open(
        &mut self,
        peer: PeerKey,
        key: RequestKey,
        origin: Origin,
        exchange: SlotId,
        now_us: u64,
    ) -> bool {
        self.insert(peer, key, Entry::new(key, origin, now_us, RequestState::Open(exchange)))
    }

    /// Remembers a block of an upload, if there is room.
    pub(super) fn note_block(&mut self, peer: PeerKey, key: RequestKey, origin: Origin, now_us: u64) {
        self.insert(peer, key, Entry::new(key, origin, now_us, RequestState::Block));
    }

    fn insert(&mut self, peer: PeerKey, key: RequestKey, entry: Entry) -> bool {
        let (per_peer_max, open_max) = (self.per_peer_max, self.open_per_peer_max);
        if let Some(known) = self.peer(peer) {
            if known.open + usize::from(entry.is_open()) > open_max {
                return false;
            }
            if known.entries.len() >= per_peer_max
                && let Some(oldest) = known.entries.iter().position(|entry| !entry.is_open())
            {
                // The new one takes its place.
                known.remove(oldest);
                known.push(key, entry);
                return true;
            }
        }
        if self.len >= self.max && !self.make_room() {
            return false;
        }
        self.len += 1;
        if let Some(known) = self.peer(peer) {
            known.push(key, entry);
            return true;
        }
        let mut new = Peer::new(peer, key);
        new.push(key, entry);
        let place = match self.free.pop() {
            Some(place) => {
                self.peers[place as usize] = Some(new);
                place
            }
            None => {
                self.peers.push(Some(new));
                u32::try_from(self.peers.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.places.insert(peer, place);
        true
    }

    /// Notes the end of an open request: its answer for duplicates, or `None` to treat a duplicate as new.
    pub(super) fn close(&mut self, peer: PeerKey, key: RequestKey, exchange: SlotId, answer: Option<RequestState>) {
        let Some(known) = self.peer(peer) else { return };
        let (mark, open) = (key.mark(), RequestState::Open(exchange));
        let mut both = known.marks.iter().zip(&known.entries);
        let Some(at) = both.rposition(|(of_entry, entry)| *of_entry == mark && entry.state == open) else { return };
        known.open -= 1;
        match answer {
            Some(state) => known.entries[at].state = state,
            None => {
                known.remove(at);
                let empty = known.entries.is_empty();
                self.len -= 1;
                if empty {
                    self.remove(peer);
                }
            }
        }
    }

    /// Removes a peer; returns its open requests.
    pub(super) fn forget(&mut self, peer: PeerKey) -> Vec<SlotId> {
        let Some(known) = self.remove(peer) else { return Vec::new() };
        self.len -= known.entries.len();
        let open = known.entries.into_iter().filter_map(|entry| match entry.state {
            RequestState::Open(exchange) => Some(exchange),
            _ => None,
        });
        open.collect()
    }

    /// Removes expired entries of some of the peers.
    pub(super) fn sweep(&mut self, now_us: u64) {
        for _ in 0..self.peers.len().div_ceil(TICKS_PER_ROUND) {
            self.clock_hand = (self.clock_hand + 1) % self.peers.len();
            let Some(peer) = &mut self.peers[self.clock_hand] else { continue };
            peer.heard = false;
            self.len -= peer.retain(|entry| entry.is_current(now_us));
            let key = peer.key;
            if peer.entries.is_empty() {
                self.remove(key);
            }
        }
    }

    /// Removes the answers of a silent peer; returns whether there was one.
    fn make_room(&mut self) -> bool {
        for _ in 0..2 * self.peers.len() {
            self.clock_hand = (self.clock_hand + 1) % self.peers.len();
            let Some(peer) = &mut self.peers[self.clock_hand] else { continue };
            if std::mem::take(&mut peer.heard) {
                continue;
            }
            let gone = peer.retain(Entry::is_open);
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

    fn exchange(slot: u32) -> SlotId {
        SlotId { index: slot, generation: 0 }
    }

    fn key(id: u16) -> RequestKey {
        RequestKey { id, token: MessageToken::default(), fingerprint: id.into() }
    }

    fn answer(seen: &mut RecentRequests, peer: u64, id: u16, now_us: u64) {
        answer_to(seen, PeerKey::Session(peer), key(id), 1, now_us);
    }

    fn answer_to(seen: &mut RecentRequests, peer: PeerKey, key: RequestKey, answer: u8, now_us: u64) {
        assert!(seen.open(peer, key, Origin::default(), exchange(7), now_us));
        seen.close(peer, key, exchange(7), Some(RequestState::Answered([answer].into())));
    }

    fn state(seen: &mut RecentRequests, peer: PeerKey, key: RequestKey) -> Option<RequestState> {
        seen.find(peer, key, 0).map(|entry| entry.state.clone())
    }

    fn is_reused(seen: &mut RecentRequests, peer: PeerKey, key: RequestKey, now_us: u64) -> bool {
        matches!(seen.look(peer, key, now_us), Lookup::Reused)
    }

    fn knows(seen: &mut RecentRequests, peer: u64, id: u16, now_us: u64) -> bool {
        seen.find(PeerKey::Session(peer), key(id), now_us).is_some()
    }

    #[test]
    fn an_answer_is_remembered_for_the_lifetime_of_its_exchange() {
        let mut seen = RecentRequests::new(10, 5, 5);
        answer(&mut seen, 1, 1, 0);
        assert!(knows(&mut seen, 1, 1, EXCHANGE_LIFETIME_US - 1));
        assert!(!knows(&mut seen, 1, 1, EXCHANGE_LIFETIME_US));
        assert!(!knows(&mut seen, 2, 1, 0));
        for _ in 0..TICKS_PER_ROUND {
            seen.sweep(EXCHANGE_LIFETIME_US);
        }
        assert_eq!((seen.len(), seen.peers()), (0, 0));
    }

    #[test]
    fn a_peer_that_sent_much_once_keeps_no_room_for_it() {
        let mut seen = RecentRequests::new(1_000, 500, 5);
        (0..400).for_each(|id| answer(&mut seen, 1, id, 0));
        answer(&mut seen, 1, 400, EXCHANGE_LIFETIME_US);
        (0..TICKS_PER_ROUND).for_each(|_| seen.sweep(EXCHANGE_LIFETIME_US));
        let peer = seen.peer(PeerKey::Session(1)).expect("it is remembered");
        assert_eq!(peer.entries.len(), 1);
        assert!(peer.entries.capacity() <= SPARE && peer.marks.capacity() <= SPARE, "{}", peer.entries.capacity());
    }

    #[test]
    fn requests_with_one_id_and_token_are_told_apart_by_their_bytes() {
        let mut seen = RecentRequests::new(10, 5, 5);
        let peer = PeerKey::Session(1);
        let [first, second] = [1, 2].map(|fingerprint| RequestKey { fingerprint, ..key(7) });
        answer_to(&mut seen, peer, first, 3, 0);
        assert_eq!(state(&mut seen, peer, second), None);
        assert!(is_reused(&mut seen, peer, second, 0) && !is_reused(&mut seen, peer, first, 0));
        assert!(!is_reused(&mut seen, peer, RequestKey { id: 8, fingerprint: 9, ..second }, 0));
        assert!(!is_reused(&mut seen, peer, second, EXCHANGE_LIFETIME_US), "its id may name another by now");
        answer_to(&mut seen, peer, second, 4, 0);
        assert_eq!(state(&mut seen, peer, first), Some(RequestState::Answered([3].into())));
        assert_eq!(state(&mut seen, peer, second), Some(RequestState::Answered([4].into())));
    }

    #[test]
    fn a_restart_is_remembered_for_what_was_seen_before_it() {
        let mut seen = RecentRequests::new(10, 5, 5);
        let peer = PeerKey::Session(1);
        seen.note_block(peer, key(1), Origin { upload: 7, is_restart: false }, 10);
        seen.note_block(peer, key(2), Origin { upload: 8, is_restart: true }, 20);
        assert_eq!(seen.find(peer, key(1), 30).map(|entry| entry.upload), Some(7));
        assert!(seen.has_restarted(peer, 19) && !seen.has_restarted(peer, 20));
        assert!(!seen.has_restarted(PeerKey::Session(2), 0));
    }

    #[test]
    fn message_ids_of_answers_are_counted_for_each_peer() {
        let mut seen = RecentRequests::new(10, 5, 5);
        let peer = PeerKey::Session(1);
        assert_eq!(seen.next_id(peer), None);
        seen.note_block(peer, RequestKey { fingerprint: 0xffff, ..key(7) }, Origin::default(), 0);
        seen.note_block(PeerKey::Session(2), key(7), Origin::default(), 0);
        assert_eq!([(); 3].map(|()| seen.next_id(peer)), [0, 1, 2].map(Some));
        assert_eq!(seen.next_id(PeerKey::Session(2)), Some(8));
    }

    #[test]
    fn each_peer_and_all_of_them_are_bounded_and_who_speaks_is_remembered() {
        let mut seen = RecentRequests::new(100, 5, 5);
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
        let mut seen = RecentRequests::new(10, 5, 3);
        let peer = PeerKey::Session(1);
        for id in 0..3 {
            assert!(seen.open(peer, key(id), Origin::default(), exchange(id.into()), 0));
        }
        assert!(!seen.open(peer, key(3), Origin::default(), exchange(3), 0), "one more than may be open");
        for other in 2..5 {
            for id in 0..3 {
                let expected = seen.len() < 10;
                let opened = seen.open(PeerKey::Session(other), key(id), Origin::default(), exchange(9), 0);
                assert_eq!(opened, expected);
            }
        }
        let found = seen.find(peer, key(0), u64::MAX / 2).map(|entry| &entry.state);
        assert_eq!(found, Some(&RequestState::Open(exchange(0))));
        seen.close(peer, key(1), exchange(8), None);
        assert_eq!(seen.open_of(peer).collect::<Vec<_>>(), [0, 1, 2].map(exchange), "closed by another exchange");
        seen.close(peer, key(1), exchange(1), None);
        assert_eq!(state(&mut seen, peer, key(1)), None);
        assert_eq!(seen.forget(peer), [exchange(0), exchange(2)]);
        assert_eq!(seen.len(), 7);
    }
}
