//! Envelopes: what the queue carries, as CloudEvents 1.0 (JSON format 1.0 in structured mode).
//!
//! What a device says never sets an attribute: `origin` tells who speaks, and text of devices is escaped wherever it
//! stands.

mod encoder;
mod envelope_type;
mod head;
mod mode;
mod outcome;
mod place;
mod presence;
mod rejection;
mod replacement;
mod source;

pub use encoder::Encoder;
pub use envelope_type::EnvelopeType;
pub use mode::Mode;
pub(crate) use rejection::subject_too_long;
pub use rejection::{Reason, Rejection};
pub use replacement::Replacement;
pub use source::{Cause, Source};
