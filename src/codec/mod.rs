//! Bytes to packets and back, for the protocols that devices speak.

pub mod coap;
pub mod mqtt;
pub mod proxy;
pub mod websocket;
