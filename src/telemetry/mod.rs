//! Log, metrics, health, the HTTP listener of operators, and the export of spans.

pub mod admin;
pub mod health;
pub mod log;
pub mod metric;
pub mod span;
