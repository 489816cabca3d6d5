//! A ledger compared with what the queue stored.
//!
//! [`Ledger`](super::ledger::Ledger) (what was acknowledged) and the stored records, one after the other as [`StoredRecord`],
//! go into a [`Comparison`], which gives a [`Report`].

mod comparison;
mod consumer;
mod record;
mod report;

pub use comparison::{Comparison, Rule};
pub use consumer::Taken;
pub use record::{StoredCopy, StoredRecord};
pub use report::{Disorder, EXAMPLES_MAX, Loss, Report};
