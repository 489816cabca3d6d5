//! Slots for connections and requests, by number.

use std::collections::VecDeque;

use crate::protocol::uplink::SlotId;

#[derive(Debug)]
struct Slot<T> {
    generation: u16,
    item: Option<T>,
}

/// A slab whose slots count how often they were released, so that a late receipt of an earlier item is recognised.
#[derive(Debug)]
pub struct Slots<T> {
    slots: Vec<Slot<T>>,
    /// The slot that is free for longest comes first: so its generation comes round as late as possible.
    free: VecDeque<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slots<T> {
    /// An empty slab.
    pub fn new() -> Self {
        Self { slots: Vec::new(), free: VecDeque::new() }
    }

    /// Reserves a slot; the item comes with [`Slots::fill`].
    pub fn reserve(&mut self) -> SlotId {
        let index = self.free.pop_front().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, item: None });
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let generation = self.slots.get(index as usize).map_or(0, |slot| slot.generation);
        SlotId { index, generation }
    }

    /// Puts the item into its reserved slot.
    pub fn fill(&mut self, id: SlotId, item: T) {
        if let Some(slot) = self.slots.get_mut(id.index as usize) {
            slot.item = Some(item);
        }
    }

    /// Puts the item into a slot.
    pub fn insert(&mut self, item: T) -> SlotId {
        let id = self.reserve();
        self.fill(id, item);
        id
    }

    /// The item that the id names, not a later one in its slot.
    pub fn find(&self, id: SlotId) -> Option<&T> {
        self.slots.get(id.index as usize).filter(|slot| slot.generation == id.generation)?.item.as_ref()
    }

    /// The same, to be changed.
    pub fn find_mut(&mut self, id: SlotId) -> Option<&mut T> {
        self.slot_mut(id)?.item.as_mut()
    }

    /// The item of a slot, whichever it is.
    pub fn at(&self, index: usize) -> Option<&T> {
        self.slots.get(index)?.item.as_ref()
    }

    /// The same, to be changed.
    pub fn at_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slots.get_mut(index)?.item.as_mut()
    }

    /// Frees the slot that the id names; its item, if it was filled.
    pub fn release(&mut self, id: SlotId) -> Option<T> {
        let slot = self.slot_mut(id)?;
        slot.generation = slot.generation.wrapping_add(1);
        let item = slot.item.take();
        self.free.push_back(id.index);
        item
    }

    /// Slots there are, taken or free.
    pub fn places(&self) -> usize {
        self.slots.len()
    }

    /// Slots that are reserved or filled.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether every slot is free.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| slot.item.as_ref())
    }

    /// All items, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().filter_map(|slot| slot.item.as_mut())
    }

    /// All items with their ids.
    pub fn entries(&self) -> impl Iterator<Item = (SlotId, &T)> {
        let slots = (0..).zip(&self.slots);
        slots.filter_map(|(index, slot)| {
            let id = SlotId { index, generation: slot.generation };
            slot.item.as_ref().map(|item| (id, item))
        })
    }

    fn slot_mut(&mut self, id: SlotId) -> Option<&mut Slot<T>> {
        self.slots.get_mut(id.index as usize).filter(|slot| slot.generation == id.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_finds_the_next_item_of_its_slot() {
        let mut slots = Slots::new();
        let first = slots.reserve();
        slots.fill(first, "first");
        assert_eq!(slots.find(first), Some(&"first"));
        assert_eq!((slots.release(first), slots.release(first)), (Some("first"), None));
        let second = slots.insert("second");
        assert_eq!(second.index, first.index);
        assert!(slots.find(first).is_none() && slots.find_mut(first).is_none());
        assert_eq!(slots.find(second), Some(&"second"));
        assert_ne!(slots.reserve().index, second.index, "a slot was given twice");
        assert_eq!((slots.len(), slots.places()), (2, 2));
        assert_eq!(slots.entries().collect::<Vec<_>>(), [(second, &"second")]);
    }
}
