//! State machines of what devices speak: the MQTT session and the CoAP endpoint. Without I/O, clock or randomness: all three
//! are arguments.

pub mod coap;
#[cfg(test)]
pub(crate) mod fake;
pub mod identity;
pub mod mqtt;
pub mod slots;
pub mod step;
