//! The numbers of records that came already (RFC 6347 section 4.1.2.6).

/// Numbers below the highest one that are told apart; older ones count as having come.
const WIDTH: u64 = 64;

/// The anti-replay window of one session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// Number behind the highest one that came.
    end: u64,
    /// The lowest bit is that of the highest number, the next one that of the number below it.
    came: u64,
}

impl Window {
    /// Whether a record may be the first one with that number.
    pub(super) fn is_new(self, sequence: u64) -> bool {
        match self.end.checked_sub(sequence + 1) {
            None => true,
            Some(behind) => behind < WIDTH && self.came >> behind & 1 == 0,
        }
    }

    /// A record with that number came, and is the peer's.
    pub(super) fn note(&mut self, sequence: u64) {
        match (sequence + 1).checked_sub(self.end) {
            Some(ahead) if ahead > 0 => {
                self.came = if ahead < WIDTH { self.came << ahead | 1 } else { 1 };
                self.end = sequence + 1;
            }
            _ => {
                let behind = self.end - (sequence + 1);
                self.came |= 1_u64.checked_shl(u32::try_from(behind).unwrap_or(u32::MAX)).unwrap_or(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each of these numbers counts as new when they come one after the other.
    fn take(numbers: &[u64]) -> Vec<bool> {
        let mut window = Window::default();
        numbers
            .iter()
            .map(|number| {
                let is_new = window.is_new(*number);
                window.note(*number);
                is_new
            })
            .collect()
    }

    #[test]
    fn each_number_counts_once_in_any_order() {
        assert_eq!(
            take(&[0, 1, 2, 1, 0, 5, 3, 5, 4, 3]),
            [true, true, true, false, false, true, true, false, true, false]
        );
        assert_eq!(take(&[7, 0, 7, 0]), [true, true, false, false]);
    }

    #[test]
    fn what_is_far_behind_counts_as_having_come() {
        assert_eq!(take(&[100, 37, 36, 37]), [true, true, false, false]);
        assert_eq!(take(&[10, 1000, 10, 999, 1000]), [true, true, false, true, false]);
        assert_eq!(take(&[(1 << 48) - 1, 0, (1 << 48) - 1]), [true, false, false]);
    }
}
