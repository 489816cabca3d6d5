//! The protocol as its users see it: tables in, envelopes and packets out.

mod command;
mod envelope;
mod fields;
mod golden;
mod hostile;
mod json;
mod mqtt;
#[path = "../support/mqtt_rows.rs"]
#[expect(dead_code, reason = "what the bridge answers is looked at by the tests of the process")]
mod mqtt_rows;
mod support;
mod trace;
mod types;
mod vectors;
