//! Rules of the producers of records and of outcomes: sizes, errors of one record, partitions without progress.

pub(super) mod limits;
pub(super) mod verdict;
pub(super) mod watch;
