//! Several replicas as one bridge: which of them holds a device, and what they tell each other about it.
//!
//! [`claim`] decides about two sessions, [`Coordination`] about everything that a replica hears; both without I/O.
//! [`HandOver`] brings a command to the replica that holds its device. The rest is what one replica knows of its own sessions.

pub mod claim;
#[cfg(feature = "bridge")]
mod coordination;
#[cfg(feature = "bridge")]
mod directory;
#[cfg(feature = "bridge")]
mod freeze;
#[cfg(feature = "bridge")]
mod hand_over;
#[cfg(feature = "bridge")]
mod late;
#[cfg(feature = "bridge")]
mod mailbox;
#[cfg(test)]
mod presence;
#[cfg(feature = "bridge")]
mod recent;
#[cfg(feature = "bridge")]
mod reconnects;
#[cfg(feature = "bridge")]
mod takeovers;

#[cfg(feature = "bridge")]
pub use self::coordination::{ChannelEvent, ClaimChannel, Coordination, Output, Report, coordinate};
#[cfg(feature = "bridge")]
pub use self::directory::{Directory, Entered, Entry};
#[cfg(feature = "bridge")]
pub use self::freeze::Freeze;
#[cfg(feature = "bridge")]
pub use self::hand_over::{ForeignOutcome, HandOver, HandOverAnswer, HandOverRequest, HandOverSettings};
#[cfg(feature = "bridge")]
pub use self::mailbox::{Mail, Mailbox, Notice};
