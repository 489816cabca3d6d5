//! The ledger: the messages that a simulation sent, and those that it saw acknowledged.
//!
//! `simulate --ledger` writes it, `verify --ledger` reads it. It is a text file, one line per event, words separated by
//! single tabs. The first line names the format and the run; a line that a reader does not know is an error, not noise.
//!
//! ```text
//! jetlinks-bridge-ledger 1 01JDA0Z6W3T2V4X8Y0ABCDEFGH
//! device 0 product1 device1
//! sent 0 1 20
//! acknowledged 0 1 18
//! resent 0 19 20
//! sent 0 21 40
//! acknowledged 0 19 40
//! end
//! ```
//!
//! | line | meaning |
//! |---|---|
//! | `device I P D` | device number I is device D of product P |
//! | `sent I A B` | the messages with n from A to B were handed to the socket for the first time |
//! | `resent I A B` | these were unacknowledged when the connection ended, and were sent again on the next one |
//! | `acknowledged I A B` | PUBACK (QoS 2: PUBREC) of these was read |
//! | `end` | the simulation ended in good order; without it the last 200 ms before its death may be missing |
//!
//! Ranges of one device may arrive in any order of n, because a server may acknowledge out of order; no n is
//! acknowledged twice. An `acknowledged` line never precedes the `sent` line of the same n.

mod reader;
mod writer;

pub use reader::{DeviceLedger, Ledger, LedgerError, LineFault};
pub use writer::LedgerWriter;

/// First word of a ledger.
const MAGIC: &str = "jetlinks-bridge-ledger";
/// The format that this program writes and reads.
const FORMAT: &str = "1";
