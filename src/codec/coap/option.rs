//! Numbers of options.

/// Host of the address; critical.
pub const URI_HOST: u16 = 3;
/// Tells representations apart; repeatable.
pub const ETAG: u16 = 4;
/// Port of the address; critical.
pub const URI_PORT: u16 = 7;
/// One segment of the path; critical, repeatable.
pub const URI_PATH: u16 = 11;
/// Format of the payload.
pub const CONTENT_FORMAT: u16 = 12;
/// Lifetime of an answer, in seconds.
pub const MAX_AGE: u16 = 14;
/// One argument; critical, repeatable.
pub const URI_QUERY: u16 = 15;
/// Format that the client wants; critical.
pub const ACCEPT: u16 = 17;
/// Block of an answer's body; critical (RFC 7959).
pub const BLOCK2: u16 = 23;
/// Block of a request's body; critical (RFC 7959).
pub const BLOCK1: u16 = 27;
/// Address that a proxy is asked for; critical.
pub const PROXY_URI: u16 = 35;
/// Scheme of the address that a proxy is asked for; critical.
pub const PROXY_SCHEME: u16 = 39;
/// Bytes of a request's body, or the most that are taken (RFC 7959).
pub const SIZE1: u16 = 60;
/// Tells uploads to one path apart; repeatable (RFC 9175).
pub const REQUEST_TAG: u16 = 292;
/// JetLinks: id of the device.
pub const DEVICE_ID: u16 = 2100;
/// JetLinks: signature of a request for a token.
pub const SIGNATURE: u16 = 2110;
/// JetLinks: the token; critical. Never sent in an answer, where clients would not understand it.
pub const TOKEN: u16 = 2111;

/// Content-Format `text/plain`.
pub const FORMAT_TEXT: u32 = 0;
/// Content-Format `application/octet-stream`.
pub const FORMAT_BYTES: u32 = 42;
/// Content-Format `application/json`.
pub const FORMAT_JSON: u32 = 50;

/// Whether a message with this option must be refused by who does not understand it (RFC 7252 section 5.4.6).
pub fn is_critical(number: u16) -> bool {
    number & 1 == 1
}
