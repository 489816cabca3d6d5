//! Log, metrics, health, the HTTP listener of operators, the export of spans, and operators who follow devices.

pub mod admin;
pub mod follow;
pub mod health;
pub mod log;
pub mod metric;
pub mod span;
