//! Several replicas as one bridge: which of them holds a device, and what they tell each other about it.
//!
//! [`claim`] decides about two sessions, [`Coordination`] about everything that a replica hears; both without I/O.
//! `request` is what operators ask of several replicas, `shed` how a replica ends some of its sessions. The rest is what one replica knows of its own sessions, and the ways to workers and other replicas, which need the feature `bridge`.

pub mod claim;
mod coordination;
mod directory;
#[cfg(feature = "bridge")]
mod hand_over;
mod late;
mod message;
#[cfg(test)]
mod presence;
mod recent;
mod reconnects;
#[cfg(feature = "bridge")]
pub mod request;
#[cfg(feature = "bridge")]
pub mod shed;
mod takeovers;
#[cfg(feature = "bridge")]
mod worker_sender;

#[cfg(feature = "bridge")]
pub use self::coordination::{ChannelEvent, ClaimChannel, coordinate};
pub use self::coordination::{Coordination, Output, Report};
pub use self::directory::{Directory, Entered, Entry};
#[cfg(feature = "bridge")]
pub use self::hand_over::{ForeignOutcome, HandOver, HandOverAnswer, HandOverRequest, HandOverSettings};
pub use self::message::{ClusterEvent, WorkerMessage};
#[cfg(feature = "bridge")]
pub use self::worker_sender::WorkerSender;
