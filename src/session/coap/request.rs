//! Requests, as far as they can be read without their device.

use sha2::{Digest, Sha256};

use super::Security;
use crate::codec::coap::{Block, Code, Message, option};
use crate::protocol::id::DeviceId;

/// Longest segment of a path or argument (RFC 7252 section 5.10).
const SEGMENT_BYTES_MAX: usize = 255;

/// Longest Proxy-Uri (RFC 7252 section 5.10).
const PROXY_BYTES_MAX: usize = 1034;

/// A request's body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// All of it, as it came.
    Whole(Vec<u8>),
    /// It is over the limit; its rest was not received.
    TooLarge,
}

/// One block of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Its number, size, and whether more follow.
    pub(super) block: Block,
    /// Key of the body: equal for its blocks, different for every other body that the peer may be sending.
    pub(super) key: [u8; 32],
    /// Size1: length of the whole body, if the client says it.
    pub(super) announced_bytes: Option<u32>,
}

/// A request that was read and whose device is not known yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Option 2100.
    pub(super) device: DeviceId,
    /// The path.
    pub(super) topic: String,
    /// Whether a segment of the path has a slash in it: no topic has one there.
    pub(super) has_slash_in_segment: bool,
    /// The payload: a whole body, or one block of it.
    pub(super) body: Body,
    /// Block1: the part of a body that the payload is.
    pub(super) part: Option<Part>,
    /// Block2: the block of the answer that the client asks for.
    pub(super) wanted: Option<Block>,
    /// Option 2110.
    pub(super) signature: Vec<u8>,
    /// Option 2111.
    pub(super) token: Option<Vec<u8>>,
    /// Whether the client accepts JSON.
    pub(super) accepts_json: bool,
}

/// Error of a request that is refused before its device is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A critical option that is not understood, and why: 4.02, but RST for a NON (RFC 7252 section 5.4.1).
    Option(u16, &'static str),
    /// Option 2100 is missing or no id.
    Nameless,
    /// Any other error, answered with this code and text.
    Answer(Code, &'static str),
}

impl Request {
    /// Reads a request; its payload is moved out.
    pub(super) fn read(mut message: Message, security: &Security) -> Result<Self, Fault> {
        check_options(&message, security)?;
        if !matches!(message.code(), Code::POST | Code::PUT) {
            return Err(Fault::Answer(Code::METHOD_NOT_ALLOWED, "the method is POST or PUT"));
        }
        let device = message.value(option::DEVICE_ID).and_then(|id| std::str::from_utf8(id).ok());
        let device = device.and_then(|id| DeviceId::new(id).ok()).ok_or(Fault::Nameless)?;
        if !message.uint(option::CONTENT_FORMAT).is_none_or(is_format) {
            return Err(Fault::Answer(Code::UNSUPPORTED_CONTENT_FORMAT, "Content-Format is 0, 42 or 50"));
        }
        let part = message.uint(option::BLOCK1).map(|value| {
            let block =
                Block::from_uint(value).map_err(|_| Fault::Answer(Code::BAD_REQUEST, "Block1 has no such size"))?;
            Ok(Part { block, key: upload_key(&message), announced_bytes: message.uint(option::SIZE1) })
        });
        let part = part.transpose()?;
        let wanted = message.uint(option::BLOCK2).map(Block::from_uint).transpose();
        let wanted = wanted.map_err(|_| Fault::Answer(Code::BAD_REQUEST, "Block2 has no such size"))?;
        let topic = message.path().map_err(|_| Fault::Option(option::URI_PATH, "is not UTF-8"))?;
        let has_slash_in_segment = message.values(option::URI_PATH).any(|segment| segment.contains(&b'/'));
        Ok(Self {
            device,
            topic,
            has_slash_in_segment,
            part,
            wanted,
            signature: message.value(option::SIGNATURE).unwrap_or_default().to_vec(),
            token: message.value(option::TOKEN).map(<[u8]>::to_vec),
            accepts_json: message.uint(option::ACCEPT).is_none_or(is_format),
            body: Body::Whole(message.take_payload()),
        })
    }

    /// Memory that it takes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let body = match &self.body {
            Body::Whole(body) => body.capacity(),
            Body::TooLarge => 0,
        };
        size_of::<Self>() + body + self.topic.len() + self.signature.len() + self.token.as_ref().map_or(0, Vec::len)
    }
}

/// Key of an upload of a peer: equal for the blocks of one body (RFC 7959 section 2.5, RFC 9175 section 3).
fn upload_key(message: &Message) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix([message.code().to_byte()]);
    let telling = [option::ETAG, option::URI_PATH, option::URI_QUERY, option::REQUEST_TAG, option::DEVICE_ID];
    for number in telling {
        for value in message.values(number) {
            hash.update(number.to_be_bytes());
            hash.update((value.len() as u64).to_be_bytes());
            hash.update(value);
        }
    }
    hash.finalize().into()
}

fn is_format(format: u32) -> bool {
    matches!(format, option::FORMAT_TEXT | option::FORMAT_BYTES | option::FORMAT_JSON)
}

/// Checks the options. A critical one that is repeated where it must not be, or is too long, counts as not understood
/// (RFC 7252 sections 5.4.3 and 5.4.5). So do the options of JetLinks when repeated: a request names its device once.
fn check_options(message: &Message, security: &Security) -> Result<(), Fault> {
    let mut last = None;
    let mut wants_proxy = false;
    for (number, value) in message.options() {
        let is_repeated = last.replace(number) == Some(number);
        wants_proxy |= matches!(number, option::PROXY_URI | option::PROXY_SCHEME);
        if let Some(mistake) = mistake_in(number, value.len(), is_repeated, security) {
            return Err(Fault::Option(number, mistake));
        }
    }
    if wants_proxy {
        return Err(Fault::Answer(Code::PROXYING_NOT_SUPPORTED, "this is no proxy"));
    }
    Ok(())
}

/// The mistake in an option, if there is one.
fn mistake_in(number: u16, bytes: usize, is_repeated: bool, security: &Security) -> Option<&'static str> {
    let may_be_repeated = matches!(number, option::URI_PATH | option::URI_QUERY);
    let lengths = match number {
        option::URI_PATH | option::URI_QUERY => 0..=SEGMENT_BYTES_MAX,
        option::URI_HOST => 1..=SEGMENT_BYTES_MAX,
        option::URI_PORT | option::ACCEPT => 0..=2,
        option::BLOCK1 | option::BLOCK2 => 0..=3,
        option::PROXY_URI | option::PROXY_SCHEME => 1..=PROXY_BYTES_MAX,
        option::TOKEN if matches!(security, Security::Aes) => return Some("is for DTLS alone"),
        option::DEVICE_ID | option::SIGNATURE | option::TOKEN => 0..=usize::MAX,
        _ if option::is_critical(number) => return Some("is unknown"),
        _ => return None,
    };
    match () {
        () if is_repeated && !may_be_repeated => Some("is repeated"),
        () if !lengths.contains(&bytes) => Some("has a wrong length"),
        () => None,
    }
}
