//! Assigned partitions of the command topic: which of their records are answered, and the offsets to commit.

use std::collections::{HashMap, VecDeque};

/// Unanswered records of one partition. The partition is paused at this number, and resumed at half of it.
const UNANSWERED_MAX: usize = 4096;

/// Records of one partition from the oldest unanswered one on. The partition is paused at this number, and resumed at half
/// of it: one command with a very long timeout costs at most this many entries of 16 bytes.
const WINDOW_MAX: usize = 65_536;

/// Partition and offset of a record that was read. It is valid until the partition is revoked and removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// Number of the assignment of the partition under which it was read.
    epoch: u64,
}

/// The partitions that are assigned to this replica.
#[derive(Debug, Default)]
pub(super) struct Partitions {
    by_number: HashMap<i32, Partition>,
    /// Number of the last assignment of a partition.
    last_epoch: u64,
}

#[derive(Debug, Default)]
struct Partition {
    /// Number of this assignment.
    epoch: u64,
    /// Records from the oldest unanswered one on, by offset.
    window: VecDeque<Entry>,
    unanswered: usize,
    is_paused: bool,
    is_revoked: bool,
}

#[derive(Debug)]
struct Entry {
    offset: i64,
    is_answered: bool,
}

/// Partitions to pause and partitions to resume.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Regulation {
    pub(super) pause: Vec<i32>,
    pub(super) resume: Vec<i32>,
}

impl Partitions {
    /// Adds partitions that were assigned to this replica.
    pub(super) fn assign(&mut self, numbers: &[i32]) {
        for &number in numbers {
            self.last_epoch += 1;
            self.by_number.insert(number, Partition { epoch: self.last_epoch, ..Partition::default() });
        }
    }

    /// Marks partitions as revoked. [`Partitions::take`] takes no more records of them; answers still count.
    pub(super) fn revoke(&mut self, numbers: &[i32]) {
        for number in numbers {
            if let Some(partition) = self.by_number.get_mut(number) {
                partition.is_revoked = true;
            }
        }
    }

    /// Removes partitions, and returns the number of their unanswered records.
    pub(super) fn remove(&mut self, numbers: &[i32]) -> usize {
        numbers.iter().filter_map(|number| self.by_number.remove(number)).map(|partition| partition.unanswered).sum()
    }

    /// Removes all partitions.
    pub(super) fn clear(&mut self) {
        self.by_number.clear();
    }

    /// Numbers of all partitions.
    pub(super) fn numbers(&self) -> Vec<i32> {
        self.by_number.keys().copied().collect()
    }

    /// Number of unanswered records of these partitions.
    pub(super) fn unanswered(&self, numbers: &[i32]) -> usize {
        numbers.iter().filter_map(|number| self.by_number.get(number)).map(|partition| partition.unanswered).sum()
    }

    /// Adds a record that was read. `None` when the partition is revoked or not assigned, or when the record was read before.
    pub(super) fn take(&mut self, number: i32, offset: i64) -> Option<Origin> {
        let partition = self.by_number.get_mut(&number).filter(|partition| !partition.is_revoked)?;
        if partition.window.back().is_some_and(|last| last.offset >= offset) {
            return None;
        }
        partition.window.push_back(Entry { offset, is_answered: false });
        partition.unanswered += 1;
        Some(Origin { partition: number, offset, epoch: partition.epoch })
    }

    /// Marks a record as answered. Returns the next offset to commit if it has advanced.
    pub(super) fn answer(&mut self, origin: &Origin) -> Option<i64> {
        let partition = self.by_number.get_mut(&origin.partition)?;
        if partition.epoch != origin.epoch {
            return None;
        }
        let index = partition.window.binary_search_by_key(&origin.offset, |entry| entry.offset).ok()?;
        let entry = partition.window.get_mut(index).filter(|entry| !entry.is_answered)?;
        entry.is_answered = true;
        partition.unanswered -= 1;
        let mut to_commit = None;
        while let Some(first) = partition.window.front().filter(|first| first.is_answered) {
            to_commit = Some(first.offset + 1);
            partition.window.pop_front();
        }
        to_commit
    }

    /// Decides which partitions to pause and which to resume. Unless `is_open`, all are paused.
    pub(super) fn regulate(&mut self, is_open: bool) -> Regulation {
        let mut regulation = Regulation::default();
        for (&number, partition) in self.by_number.iter_mut().filter(|(_, partition)| !partition.is_revoked) {
            let (unanswered, window) = (partition.unanswered, partition.window.len());
            let is_full = unanswered >= UNANSWERED_MAX || window >= WINDOW_MAX;
            let has_room = unanswered <= UNANSWERED_MAX / 2 && window <= WINDOW_MAX / 2;
            if !partition.is_paused && (!is_open || is_full) {
                partition.is_paused = true;
                regulation.pause.push(number);
            } else if partition.is_paused && is_open && has_room {
                partition.is_paused = false;
                regulation.resume.push(number);
            }
        }
        regulation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(partitions: &mut Partitions, number: i32, offsets: std::ops::Range<i64>) -> Vec<Origin> {
        offsets.map(|offset| partitions.take(number, offset).expect("the partition is here")).collect()
    }

    #[test]
    fn an_offset_moves_on_only_over_records_that_are_all_answered() {
        let mut partitions = Partitions::default();
        partitions.assign(&[0, 1]);
        let records = taken(&mut partitions, 0, 10..14);
        assert_eq!(partitions.answer(&records[1]), None);
        assert_eq!(partitions.answer(&records[1]), None, "an answer counts once");
        assert_eq!(partitions.answer(&records[3]), None);
        assert_eq!(partitions.answer(&records[0]), Some(12));
        assert_eq!(partitions.unanswered(&[0, 1]), 1);
        assert_eq!(partitions.answer(&records[2]), Some(14));
    }

    #[test]
    fn gaps_in_the_offsets_and_repeated_records_change_nothing() {
        let mut partitions = Partitions::default();
        partitions.assign(&[0]);
        let first = partitions.take(0, 3).expect("the partition is here");
        let second = partitions.take(0, 90).expect("the partition is here");
        assert_eq!(partitions.take(0, 90), None);
        assert_eq!(partitions.take(7, 0), None, "not of this replica");
        assert_eq!(partitions.answer(&first), Some(4));
        assert_eq!(partitions.answer(&second), Some(91));
    }

    #[test]
    fn an_answer_of_an_earlier_assignment_does_not_count() {
        let mut partitions = Partitions::default();
        partitions.assign(&[0]);
        let earlier = taken(&mut partitions, 0, 5..7);
        partitions.revoke(&[0]);
        assert_eq!(partitions.take(0, 7), None, "a partition that leaves gives nothing any more");
        assert_eq!(partitions.answer(&earlier[0]), Some(6), "until it has left its answers count");
        assert_eq!(partitions.remove(&[0]), 1);
        partitions.assign(&[0]);
        let later = taken(&mut partitions, 0, 6..7);
        assert_eq!(partitions.answer(&earlier[1]), None);
        assert_eq!(partitions.unanswered(&[0]), 1);
        assert_eq!(partitions.answer(&later[0]), Some(7));
    }

    #[test]
    fn a_full_partition_is_paused_alone_and_goes_on_when_half_is_answered() {
        let mut partitions = Partitions::default();
        partitions.assign(&[0, 1]);
        let records = taken(&mut partitions, 0, 0..UNANSWERED_MAX as i64);
        assert_eq!(partitions.regulate(true), Regulation { pause: vec![0], resume: vec![] });
        assert_eq!(partitions.regulate(true), Regulation::default());
        for record in &records[..UNANSWERED_MAX / 2] {
            partitions.answer(record);
        }
        assert_eq!(partitions.regulate(false), Regulation { pause: vec![1], resume: vec![] });
        let mut regulation = partitions.regulate(true);
        regulation.resume.sort_unstable();
        assert_eq!(regulation, Regulation { pause: vec![], resume: vec![0, 1] });
    }

    #[test]
    fn one_old_command_does_not_let_the_window_grow_without_end() {
        let mut partitions = Partitions::default();
        partitions.assign(&[0]);
        let old = partitions.take(0, 0).expect("the partition is here");
        for offset in 1..WINDOW_MAX as i64 {
            assert_eq!(partitions.regulate(true), Regulation::default());
            let record = partitions.take(0, offset).expect("the partition is here");
            partitions.answer(&record);
        }
        assert_eq!(partitions.regulate(true).pause, [0]);
        assert_eq!(partitions.answer(&old), Some(WINDOW_MAX as i64));
        assert_eq!(partitions.regulate(true).resume, [0]);
    }
}
