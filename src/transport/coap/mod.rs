//! CoAP over UDP, bare or below DTLS: the UDP sockets of a worker.
//!
//! The task of a port takes datagrams in, asks the registry for the devices that they name, and sends what the endpoint
//! left. Receipts of the queue and the tick reach the endpoint through the worker.

mod listener;

pub use listener::serve;
