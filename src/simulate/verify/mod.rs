//! A ledger compared with what the queue stored.
//!
//! [`Ledger`](super::ledger::Ledger) (what was acknowledged) and the stored records, one after the other as [`StoredRecord`],
//! go into a [`Comparison`], which gives a [`Verdict`].

mod comparison;
mod consumer;
mod record;
mod verdict;

pub use comparison::{Comparison, Rule};
pub use consumer::Taken;
pub use record::{StoredCopy, StoredRecord};
pub use verdict::{Disorder, EXAMPLES_MAX, Loss, Verdict};
