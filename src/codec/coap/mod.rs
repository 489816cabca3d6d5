//! CoAP messages (RFC 7252) and their blocks (RFC 7959), from datagrams and back.
//!
//! [`decode`] is strict where the format has traps: version, token length, empty messages, a payload marker without a
//! payload. No function panics on any input, and a message never takes more memory than a small multiple of its
//! datagram, however many options it claims.

mod block;
mod code;
mod decode;
mod draft;
mod message;
pub mod option;
mod token;

pub use block::{Block, ReservedSize};
pub use code::Code;
pub use decode::{Malformed, OPTIONS_MAX, decode};
pub use draft::{Draft, empty};
pub use message::{Kind, Message, NotText};
pub use token::MessageToken;
