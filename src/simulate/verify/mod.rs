//! A ledger compared with what the queue stored.
//!
//! [`Book`](super::ledger::Book) (what was acknowledged) and the stored records, one after the other as [`Evidence`], go into
//! a [`Judge`], which gives a [`Verdict`].

mod consumer;
mod evidence;
mod judge;
mod verdict;

pub use consumer::Taken;
pub use evidence::{Evidence, StoredCopy};
pub use judge::{Judge, Rule};
pub use verdict::{Disorder, EXAMPLES_MAX, Loss, Verdict};
