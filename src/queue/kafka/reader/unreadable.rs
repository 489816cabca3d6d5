//! Batches that no attempt reads: packed with a codec that this build does not know, or spoilt on their way or disk.
//!
//! librdkafka asks for such a batch again and again, and the client says neither in which partition it is nor how far it
//! reaches; where records are none it says nothing at all. [`find`] looks with a client of its own: each partition is read at the position where its consumer stands. One
//! that fails there [`ATTEMPTS`] times has a batch that cannot be read; where that ends is searched by reading behind it.
//! The offsets of a batch say which batch a failure is about, so no readable record is skipped.

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

use super::peek::{Peek, Peeked};

/// How often a batch is read before it counts as one that never can be.
const ATTEMPTS: usize = 3;

/// How long one search may take.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(180);

/// A part of a partition that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) partition: i32,
    /// Offset of the first record that cannot be read.
    pub(crate) first: i64,
    /// Offset from which on reading goes on.
    pub(crate) next: i64,
    /// The client's words.
    pub(crate) cause: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, first, next, cause } = self;
        if first + 1 == *next {
            write!(f, "partition {partition}, offset {first} cannot be read: {cause}")
        } else {
            write!(f, "partition {partition}, offsets {first} to {} cannot be read: {cause}", next - 1)
        }
    }
}

/// Whether a consumer says that it cannot read what it got, and not that it got nothing.
pub(crate) fn is_about_a_batch(error: &ClientError) -> bool {
    let ClientError::MessageConsumption(code) = error else { return false };
    is_batch_code(*code)
}

/// As [`is_about_a_batch`], of the code alone.
pub(crate) fn is_batch_code(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{
        BadCompression, BadMessage, CriticalSystemResource, InvalidMessage, MessageSizeTooLarge, NotImplemented,
        Underflow,
    };
    matches!(
        code,
        BadCompression
            | BadMessage
            | CriticalSystemResource
            | InvalidMessage
            | MessageSizeTooLarge
            | NotImplemented
            | Underflow
    )
}

/// Looks at these partitions of a topic, each at the offset that its consumer reads next, and tells which of them cannot go
/// on there. Blocks.
///
/// # Errors
/// The client's, when the brokers do not answer.
pub(crate) fn find(
    config: &ClientConfig,
    topic: &str,
    positions: &[(i32, i64)],
) -> Result<Vec<Unreadable>, ClientError> {
    let peek = Peek::new(config, topic);
    let deadline = Instant::now() + SEARCH_TIMEOUT;
    let mut found = Vec::new();
    for &(partition, position) in positions {
        let mut look = |offset| match Instant::now() < deadline {
            true => peek.at(partition, offset),
            false => Err(ClientError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
        };
        if let Some((next, cause)) = stretch(position, &mut look)? {
            found.push(Unreadable { partition, first: position, next, cause });
        }
    }
    Ok(found)
}

/// The end of the batch at this position and why it cannot be read; `None` where it can.
fn stretch(
    position: i64,
    look: &mut impl FnMut(i64) -> Result<Peeked, ClientError>,
) -> Result<Option<(i64, String)>, ClientError> {
    let mut batch = None;
    for _ in 0..ATTEMPTS {
        match look(position)? {
            Peeked::Unreadable { base, cause } => batch = Some((base, cause)),
            Peeked::Record | Peeked::End => return Ok(None),
        }
    }
    let Some((base, cause)) = batch else { return Ok(None) };
    let mut is_inside = |offset| -> Result<bool, ClientError> {
        Ok(matches!(look(offset)?, Peeked::Unreadable { base: other, .. } if other == base))
    };
    // Most batches are small: the distance doubles.
    let (mut inside, mut step) = (position, 1);
    let mut outside = loop {
        let offset = position.saturating_add(step);
        if !is_inside(offset)? {
            break offset;
        }
        inside = offset;
        step = step.saturating_mul(2);
    };
    while outside - inside > 1 {
        let middle = inside + (outside - inside) / 2;
        if is_inside(middle)? {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    Ok(Some((outside, cause)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition of batches, each from its base to the base of the next; only some can be read.
    struct Log {
        batches: Vec<(i64, bool)>,
        end: i64,
        looks: usize,
    }

    impl Log {
        fn look(&mut self, offset: i64) -> Result<Peeked, ClientError> {
            self.looks += 1;
            if offset >= self.end {
                return Ok(Peeked::End);
            }
            match self.batches.iter().rev().find(|(base, _)| *base <= offset) {
                Some((base, false)) => Ok(Peeked::Unreadable { base: *base, cause: "codec 5".to_owned() }),
                _ => Ok(Peeked::Record),
            }
        }

        fn next(&mut self, position: i64) -> Option<i64> {
            let found = stretch(position, &mut |offset| self.look(offset)).expect("the log answers");
            found.map(|(next, _)| next)
        }
    }

    #[test]
    fn a_search_ends_exactly_behind_the_batch_whatever_lies_there() {
        for length in [1, 2, 3, 7, 8, 500, 10_000] {
            for (behind, end) in [(true, 100_000), (false, 100_000), (true, 10 + length)] {
                let mut log = Log { batches: vec![(0, true), (10, false), (10 + length, behind)], end, looks: 0 };
                assert_eq!(log.next(10), Some(10 + length), "{length} records");
                assert!(log.looks <= 40, "{} looks at {length} records", log.looks);
            }
        }
    }

    #[test]
    fn a_readable_record_between_two_batches_is_not_skipped() {
        let batches = vec![(10, false), (13, true), (14, false), (40, true)];
        let mut log = Log { batches, end: 100, looks: 0 };
        assert_eq!(log.next(10), Some(13));
        assert_eq!(log.next(13), None);
        assert_eq!(log.next(14), Some(40));
        assert_eq!(log.next(20), Some(40), "a reader may stand inside a batch");
    }

    #[test]
    fn a_batch_that_is_read_at_a_second_attempt_is_none() {
        let mut answers = vec![Peeked::Record, Peeked::Unreadable { base: 3, cause: String::new() }];
        assert_eq!(stretch(3, &mut |_| Ok(answers.pop().expect("two looks"))), Ok(None));
    }
}
