//! Items under numbers that are not used again while somebody may still know them.

use slab::Slab;

/// Generations have 30 bits: the two highest bits of a number stay clear, so that a worker with commands from two queues and
/// from operators can tell their tickets apart.
const GENERATION_MAX: u32 = u32::MAX >> 2;

/// A slab whose numbers hold the index and a generation, which is another one for each item.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    items: Slab<(u32, T)>,
    next_generation: u32,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { items: Slab::new(), next_generation: 0 }
    }
}

impl<T> Slots<T> {
    /// Bytes of one slot.
    pub(crate) const SLOT_BYTES: usize = size_of::<(u32, T)>();

    /// Adds an item; its number.
    pub(crate) fn insert(&mut self, item: T) -> u64 {
        let generation = self.next_generation;
        self.next_generation = (generation + 1) & GENERATION_MAX;
        number(generation, self.items.insert((generation, item)))
    }

    /// The item of that number; `None` when it was removed.
    pub(crate) fn get(&self, number: u64) -> Option<&T> {
        let (generation, item) = self.items.get(index(number)?)?;
        (u64::from(*generation) == number >> 32).then_some(item)
    }

    /// As [`Slots::get`], to change it.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (generation, item) = self.items.get_mut(index(number)?)?;
        (u64::from(*generation) == number >> 32).then_some(item)
    }

    /// Takes an item out.
    pub(crate) fn remove(&mut self, number: u64) -> Option<T> {
        self.get(number)?;
        Some(self.items.remove(index(number)?).1)
    }

    /// All items with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.items.iter().map(|(index, (generation, item))| (number(*generation, index), item))
    }

    /// The number of items.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

/// Indexes are bounded by the commands in flight, far below 32 bits.
fn number(generation: u32, index: usize) -> u64 {
    u64::from(generation) << 32 | u64::try_from(index).unwrap_or(u64::MAX) & u64::from(u32::MAX)
}

fn index(number: u64) -> Option<usize> {
    usize::try_from(number & u64::from(u32::MAX)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_names_one_item_even_when_its_slot_is_taken_again() {
        let mut slots = Slots::default();
        let first = slots.insert("a");
        assert_eq!(slots.get(first), Some(&"a"));
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("b");
        assert!(slots.get(first).is_none() && slots.get_mut(first).is_none());
        assert!(slots.remove(first).is_none());
        assert_eq!((slots.len(), slots.iter().next()), (1, Some((second, &"b"))));
        assert_eq!(slots.remove(second), Some("b"));
    }

    #[test]
    fn the_two_highest_bits_of_a_number_are_always_clear() {
        let mut slots = Slots { next_generation: GENERATION_MAX, ..Slots::default() };
        for _ in 0..3 {
            let number = slots.insert(());
            assert_eq!(number >> 62, 0);
            assert!(slots.remove(number).is_some());
        }
    }
}
