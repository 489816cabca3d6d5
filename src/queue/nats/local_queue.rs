//! Queues between tasks of one thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// A queue from one task to another; one task takes.
#[derive(Debug)]
pub(super) struct LocalQueue<T> {
    items: RefCell<VecDeque<T>>,
    waker: RefCell<Option<Waker>>,
    /// The task that waits until at most this number of items is left.
    waiting_for_room: RefCell<Option<(usize, Waker)>>,
}

impl<T> Default for LocalQueue<T> {
    fn default() -> Self {
        Self { items: RefCell::default(), waker: RefCell::new(None), waiting_for_room: RefCell::new(None) }
    }
}

impl<T> LocalQueue<T> {
    pub(super) fn push(&self, item: T) {
        self.items.borrow_mut().push_back(item);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.borrow().len()
    }

    pub(super) fn pop(&self) -> Option<T> {
        let item = self.items.borrow_mut().pop_front();
        let mut waiting = self.waiting_for_room.borrow_mut();
        if let Some((_, waker)) = waiting.take_if(|(most, _)| self.len() <= *most) {
            waker.wake();
        }
        item
    }

    /// Ready when fewer than `most` items wait. Otherwise, once half of them have left: whoever waits for room would be
    /// woken for every single item. One task waits.
    pub(super) fn poll_room(&self, most: usize, cx: &mut Context<'_>) -> Poll<()> {
        if self.len() < most {
            return Poll::Ready(());
        }
        *self.waiting_for_room.borrow_mut() = Some((most / 2, cx.waker().clone()));
        Poll::Pending
    }

    pub(super) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(item) = self.pop() {
            return Poll::Ready(item);
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}
