//! Fair queueing: items that wait, taken in turn from each network.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::protocol::network::Network;

/// Items that wait, a queue for each network. The queues take turns, so a network that asks for a thousand devices makes no
/// other network wait for more than one of them.
#[derive(Debug)]
pub struct Waiting<T> {
    lines: HashMap<Network, VecDeque<T>>,
    /// Networks with a queue, the next one first.
    turns: VecDeque<Network>,
    /// The same networks by the length of their queues.
    by_length: BTreeSet<(usize, Network)>,
    len: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), turns: VecDeque::new(), by_length: BTreeSet::new(), len: 0 }
    }
}

impl<T> Waiting<T> {
    /// Whether no item waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item at the end of its network's queue. When `room` items wait already, the newest of the longest queue is
    /// removed and returned; it may be this one.
    pub fn push(&mut self, network: Network, item: T, room: usize) -> Option<T> {
        let mut refused = None;
        if self.len >= room {
            let own = self.lines.get(&network).map_or(0, VecDeque::len);
            match self.by_length.last().copied() {
                Some((longest, other)) if longest > own + 1 => refused = self.pop_back(other),
                _ => return Some(item),
            }
        }
        let line = self.lines.entry(network).or_default();
        line.push_back(item);
        let len = line.len();
        if len == 1 {
            self.turns.push_back(network);
        }
        self.resized(network, len - 1, len);
        self.len += 1;
        refused
    }

    /// Takes the item whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let network = self.turns.pop_front()?;
        let line = self.lines.get_mut(&network)?;
        let item = line.pop_front();
        let len = line.len();
        if len == 0 {
            self.lines.remove(&network);
        } else {
            self.turns.push_back(network);
        }
        self.resized(network, len + 1, len);
        self.len -= 1;
        item
    }

    /// Takes the first item, in the order of turns, that `fits`; the networks before it keep their turns.
    pub fn pop_fitting(&mut self, mut fits: impl FnMut(Network, &T) -> bool) -> Option<T> {
        let first = |network: &Network| self.lines.get(network).and_then(VecDeque::front);
        let at = self.turns.iter().position(|network| first(network).is_some_and(|item| fits(*network, item)))?;
        let network = self.turns.remove(at)?;
        self.turns.push_front(network);
        self.pop()
    }

    /// Takes the newest item of the longest queue.
    pub fn pop_newest(&mut self) -> Option<T> {
        let (len, network) = self.by_length.last().copied()?;
        if len > 1 {
            return self.pop_back(network);
        }
        self.turns.retain(|other| *other != network);
        let item = self.lines.remove(&network)?.pop_back();
        self.resized(network, 1, 0);
        self.len -= 1;
        item
    }

    /// Number of items that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Takes the newest of a line that has more than one.
    fn pop_back(&mut self, network: Network) -> Option<T> {
        let line = self.lines.get_mut(&network)?;
        let item = line.pop_back()?;
        let len = line.len();
        self.resized(network, len + 1, len);
        self.len -= 1;
        Some(item)
    }

    fn resized(&mut self, network: Network, before: usize, after: usize) {
        self.by_length.remove(&(before, network));
        if after > 0 {
            self.by_length.insert((after, network));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(number: u8) -> Network {
        Network::of([10, 0, 0, number].into())
    }

    /// Items are the network's number and the number of the item there.
    fn filled(lines: &[(u8, usize)]) -> Waiting<(u8, usize)> {
        let mut waiting = Waiting::default();
        for (line, count) in lines {
            for item in 0..*count {
                assert_eq!(waiting.push(network(*line), (*line, item), usize::MAX), None);
            }
        }
        waiting
    }

    fn all(mut waiting: Waiting<(u8, usize)>) -> Vec<(u8, usize)> {
        let items = std::iter::from_fn(|| waiting.pop()).collect();
        assert!(waiting.is_empty() && waiting.lines.is_empty() && waiting.by_length.is_empty());
        items
    }

    #[test]
    fn lines_take_turns_and_each_keeps_its_order() {
        let waiting = filled(&[(1, 4), (2, 1), (3, 2)]);
        assert_eq!(waiting.len, 7);
        assert_eq!(all(waiting), [(1, 0), (2, 0), (3, 0), (1, 1), (3, 1), (1, 2), (1, 3)]);
    }

    #[test]
    fn a_network_that_comes_later_is_served_before_the_second_of_another() {
        let mut waiting = filled(&[(1, 100)]);
        assert_eq!(waiting.pop(), Some((1, 0)));
        assert_eq!(waiting.push(network(2), (2, 0), usize::MAX), None);
        assert_eq!((waiting.pop(), waiting.pop()), (Some((1, 1)), Some((2, 0))));
    }

    #[test]
    fn whoever_does_not_fit_keeps_its_turn_and_lets_others_pass() {
        let mut waiting = filled(&[(1, 2), (2, 1), (3, 2)]);
        assert_eq!(waiting.pop_fitting(|_, item| item.0 == 3), Some((3, 0)));
        assert_eq!(waiting.pop_fitting(|_, item| item.1 == 1), Some((3, 1)), "a line is served from its front");
        assert_eq!(waiting.pop_fitting(|number, _| number == network(9)), None);
        assert_eq!(all(waiting), [(1, 0), (2, 0), (1, 1)]);
    }

    #[test]
    fn without_room_the_newest_of_the_longest_line_is_refused() {
        let mut waiting = filled(&[(1, 3), (2, 2)]);
        assert_eq!(waiting.push(network(1), (1, 9), 5), Some((1, 9)), "its own line is the longest");
        assert_eq!(waiting.push(network(2), (2, 9), 5), Some((2, 9)), "its line would be as long as the longest");
        assert_eq!(waiting.push(network(3), (3, 0), 5), Some((1, 2)));
        assert_eq!(waiting.push(network(4), (4, 0), 5), Some((2, 1)), "of equals the later network");
        assert_eq!(waiting.push(network(5), (5, 0), 5), Some((1, 1)));
        assert_eq!(waiting.push(network(6), (6, 0), 5), Some((6, 0)), "every line has one");
        assert_eq!(all(waiting), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]);
    }
}
