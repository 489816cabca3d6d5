//! Places for connections, by number.

use std::collections::VecDeque;

use crate::protocol::uplink::Token;

#[derive(Debug)]
struct Slot<T> {
    generation: u16,
    item: Option<T>,
}

/// A slab whose places count how often they were taken, so that a late receipt of an earlier tenant is recognised.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// The place that is free for longest comes first: so its generation comes round as late as possible.
    free: VecDeque<u32>,
}

impl<T> Slots<T> {
    /// An empty slab.
    pub fn new() -> Self {
        Self { slots: Vec::new(), free: VecDeque::new() }
    }

    /// Reserves a place; the item comes with [`Slots::fill`].
    pub fn reserve(&mut self) -> Token {
        let slot = self.free.pop_front().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, item: None });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let generation = self.slots.get(slot as usize).map_or(0, |slot| slot.generation);
        Token { slot, generation, sequence: 0 }
    }

    /// Puts the item into its reserved place.
    pub fn fill(&mut self, token: Token, item: T) {
        if let Some(slot) = self.slots.get_mut(token.slot as usize) {
            slot.item = Some(item);
        }
    }

    /// The tenant that the token means, not a later one.
    pub fn find(&self, token: Token) -> Option<&T> {
        self.slots.get(token.slot as usize).filter(|slot| slot.generation == token.generation)?.item.as_ref()
    }

    /// The same, to be changed.
    pub fn find_mut(&mut self, token: Token) -> Option<&mut T> {
        self.slots.get_mut(token.slot as usize).filter(|slot| slot.generation == token.generation)?.item.as_mut()
    }

    /// The tenant of a place, whichever it is.
    pub fn at_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slots.get_mut(index)?.item.as_mut()
    }

    /// Gives the place up.
    pub fn release(&mut self, token: Token) {
        if let Some(slot) = self.slots.get_mut(token.slot as usize).filter(|slot| slot.generation == token.generation) {
            slot.generation = slot.generation.wrapping_add(1);
            slot.item = None;
            self.free.push_back(token.slot);
        }
    }

    /// Places there are, taken or not.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// All tenants.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.item.as_ref())
    }

    /// All tenants, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.item.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_finds_the_next_tenant_of_its_place() {
        let mut slots = Slots::new();
        let first = slots.reserve();
        slots.fill(first, "first");
        assert_eq!(slots.find(first), Some(&"first"));
        slots.release(first);
        slots.release(first);
        let second = slots.reserve();
        slots.fill(second, "second");
        assert_eq!(second.slot, first.slot);
        assert_eq!(slots.find(first), None);
        assert_eq!(slots.find(second), Some(&"second"));
        assert_ne!(slots.reserve().slot, second.slot, "a place was given twice");
    }
}
