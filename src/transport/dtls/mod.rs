//! DTLS 1.2 below CoAP: many sessions on one UDP socket, without I/O of its own.
//!
//! 1. A ClientHello without a good cookie is answered with HelloVerifyRequest and forgotten: nothing is kept for an
//!    address that was not proven.
//! 2. With the cookie a handshake begins. Few may be half open, in all and for one network, and for a short time.
//!    What no client needs to say in a handshake never reaches OpenSSL, which would keep it.
//!    Sessions over which no device has authenticated are few as well, and end after some seconds.
//! 3. A finished handshake takes the place of an older session at the same address, if there is one: its device began
//!    anew. Until then the older one goes on, so nobody can end it by beginning a handshake.
//!    OpenSSL is let go then, as soon as the device has said something: what is left is keys and numbers of records.
//! 4. What a session decrypts is [`Sessions::received`], what must be sent is [`Sessions::sent`].
//! 5. [`Sessions::tick`] sends flights again and ends what was silent for too long.

mod buffer;
mod client;
mod cookie;
mod engine;
mod ffi;
mod flight;
mod hello;
mod protection;
mod record;
mod server;
mod sessions;
mod suite;
mod window;

#[cfg(test)]
mod tests;

pub use buffer::DatagramBuffer;
pub use client::Client;
pub use cookie::CookieSecret;
pub use engine::{Engine, Plain, Progress};
pub use server::Server;
pub use sessions::{Bounds, Sessions};
