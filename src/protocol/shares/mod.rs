//! Shares by network: nobody who speaks from one address can take what is bounded for all.
//!
//! - [`Waiting`]: a line for each network; the lines take turns, and the newest of the longest one is refused when too many
//!   wait.
//! - [`Room`]: something of which there is only so much. A network gets no more of it than is free, so that one alone gets a
//!   half, two get a third each, and there is always some left for the next.
//! - [`Rate`]: a room that is empty again after a while.
//! - [`Failures`]: who failed more often than not of late, and comes behind the others.
//!
//! Behind a balancer that does not tell whose connections it passes on, all devices are one network.

mod failures;
mod rate;
mod room;
mod waiting;

pub use failures::Failures;
pub use rate::Rate;
pub use room::Room;
pub use waiting::Waiting;
