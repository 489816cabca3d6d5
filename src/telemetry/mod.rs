//! What the process says of itself: log, metrics, health, and the HTTP listener for the last two.

pub mod admin;
pub mod health;
pub mod log;
pub mod metric;
pub mod span;
