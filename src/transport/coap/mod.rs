//! CoAP over UDP, bare or below DTLS.
//!
//! A [`Port`] is one socket of one worker with the endpoint that answers on it. Its task takes datagrams in, asks the
//! registry for the devices that they name, and sends what the endpoint left; receipts of the queue and the tick reach
//! it through the worker.

mod drive;
mod listener;
mod port;

pub use listener::serve;
pub use port::{Port, Ports};
