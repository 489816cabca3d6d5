//! Barriers in the stream of commands: once one is back, every command that was sent before it is here.

/// The barriers of one worker, by number.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    sent: u64,
    returned: u64,
}

impl Barriers {
    /// The number that the next barrier has.
    pub(super) fn next(&self) -> u64 {
        self.sent + 1
    }

    /// Takes the next number, for [`Downlink::fence`](crate::protocol::downlink::Downlink::fence).
    pub(super) fn send(&mut self) -> u64 {
        self.sent += 1;
        self.sent
    }

    /// Notes that the barrier of that number, and so those of lower ones, is back.
    pub(super) fn note_returned(&mut self, number: u64) {
        self.returned = self.returned.max(number);
    }

    /// Whether the barrier of that number is back.
    pub(super) fn has_returned(&self, number: u64) -> bool {
        self.returned >= number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_barrier_is_back_once_it_or_a_later_one_is() {
        let mut barriers = Barriers::default();
        assert_eq!((barriers.next(), barriers.send(), barriers.send(), barriers.send()), (1, 1, 2, 3));
        barriers.note_returned(2);
        barriers.note_returned(1);
        assert_eq!([1, 2, 3].map(|number| barriers.has_returned(number)), [true, true, false]);
    }
}
