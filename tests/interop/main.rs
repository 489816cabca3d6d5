//! Device stacks that we did not write, against the real bridge.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod coap;
mod dtls;
mod haproxy;
mod mosquitto;
mod mqttjs;
mod paho;
mod resumption;
mod tls;
