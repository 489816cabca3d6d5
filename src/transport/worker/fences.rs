//! Fences in the stream of commands: what was sent before one is here once it is.

/// The fences of one worker, by number.
#[derive(Debug, Default)]
pub(super) struct Fences {
    asked: u64,
    passed: u64,
}

impl Fences {
    /// The number that the next fence has.
    pub(super) fn next(&self) -> u64 {
        self.asked + 1
    }

    /// Takes the next number, for [`Downlink::fence`](crate::protocol::downlink::Downlink::fence).
    pub(super) fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Notes that the fence of that number, and so those of lower ones, is here.
    pub(super) fn pass(&mut self, number: u64) {
        self.passed = self.passed.max(number);
    }

    /// Whether the fence of that number is here.
    pub(super) fn has_passed(&self, number: u64) -> bool {
        self.passed >= number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fence_is_here_once_it_or_a_later_one_is() {
        let mut fences = Fences::default();
        assert_eq!((fences.next(), fences.ask(), fences.ask(), fences.ask()), (1, 1, 2, 3));
        fences.pass(2);
        fences.pass(1);
        assert_eq!([1, 2, 3].map(|number| fences.has_passed(number)), [true, true, false]);
    }
}
