//! stdio: one envelope per line on stdout, one command per line on stdin.
//!
//! One thread of the process writes and one reads, whatever the number of workers: lines must not mix.

mod downlink;
mod input;
mod stats;
mod uplink;
mod writer;

pub use downlink::StdioDownlink;
pub use input::{StdioInput, Undelivered};
pub use stats::StdioStats;
pub use uplink::StdioUplink;
pub use writer::StdioWriter;
