//! The protocol as its users see it: tables in, envelopes and packets out.

mod command;
mod envelope;
mod fields;
mod golden;
mod hostile;
mod json;
mod support;
mod trace;
mod types;
mod vectors;
