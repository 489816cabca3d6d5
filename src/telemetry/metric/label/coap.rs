//! Labels of what workers count of CoAP and DTLS.

use super::{Label, label};
use crate::session::coap::{self, DropReason, TokenError};

label! {
    /// Code of the answer to a CoAP request.
    "code" CoapCode {
        /// Written to the queue.
        Created = "2.01",
        /// A token, or the time.
        Content = "2.05",
        /// A block was taken, the next may come.
        Continue = "2.31",
        /// Not decodable.
        BadRequest = "4.00",
        /// Not authenticated.
        Unauthorized = "4.01",
        /// An option that is not understood.
        BadOption = "4.02",
        /// The path of another device.
        Forbidden = "4.03",
        /// An unknown topic.
        NotFound = "4.04",
        /// Neither POST nor PUT, or `direct` while `coap.direct` is off.
        MethodNotAllowed = "4.05",
        /// The client does not take JSON.
        NotAcceptable = "4.06",
        /// A block is missing.
        Incomplete = "4.08",
        /// Over `limits.packet_bytes`.
        TooLarge = "4.13",
        /// A Content-Format that is not taken.
        UnsupportedFormat = "4.15",
        /// The queue or the registry does not answer, or a bound is reached.
        Unavailable = "5.03",
        /// Asked for a proxy.
        ProxyingNotSupported = "5.05",
        /// Any other.
        Other = "other",
    }
}

impl From<coap::Code> for CoapCode {
    fn from(code: coap::Code) -> Self {
        match code {
            coap::Code::CREATED => CoapCode::Created,
            coap::Code::CONTENT => CoapCode::Content,
            coap::Code::CONTINUE => CoapCode::Continue,
            coap::Code::BAD_REQUEST => CoapCode::BadRequest,
            coap::Code::UNAUTHORIZED => CoapCode::Unauthorized,
            coap::Code::BAD_OPTION => CoapCode::BadOption,
            coap::Code::FORBIDDEN => CoapCode::Forbidden,
            coap::Code::NOT_FOUND => CoapCode::NotFound,
            coap::Code::METHOD_NOT_ALLOWED => CoapCode::MethodNotAllowed,
            coap::Code::NOT_ACCEPTABLE => CoapCode::NotAcceptable,
            coap::Code::REQUEST_ENTITY_INCOMPLETE => CoapCode::Incomplete,
            coap::Code::REQUEST_ENTITY_TOO_LARGE => CoapCode::TooLarge,
            coap::Code::UNSUPPORTED_CONTENT_FORMAT => CoapCode::UnsupportedFormat,
            coap::Code::SERVICE_UNAVAILABLE => CoapCode::Unavailable,
            coap::Code::PROXYING_NOT_SUPPORTED => CoapCode::ProxyingNotSupported,
            _ => CoapCode::Other,
        }
    }
}

label! {
    /// Why a CoAP request was answered 4.01.
    "reason" CoapRefusal {
        /// Option 2100 is missing or no id.
        Nameless = "nameless",
        /// The registry does not know the device.
        UnknownDevice = "unknown_device",
        /// The device is disabled.
        Disabled = "disabled",
        /// The device's key has not 16 bytes.
        KeyLength = "key_length",
        /// The body cannot be decrypted with the device's key.
        Undecryptable = "undecryptable",
        /// The decrypted body is not a JSON object.
        Unproven = "unproven",
        /// The request for a token is signed with something else.
        WrongSignature = "wrong_signature",
        /// The request for a token names no time near that of the bridge.
        StaleTimestamp = "stale_timestamp",
        /// Option 2111 is missing.
        TokenMissing = "token_missing",
        /// The token is not the device's, or no longer.
        WrongToken = "wrong_token",
        /// The token's time is over.
        ExpiredToken = "expired_token",
        /// The body is older than `coap.max_age`.
        TooOld = "too_old",
    }
}

impl From<coap::Refusal> for CoapRefusal {
    fn from(refusal: coap::Refusal) -> Self {
        match refusal {
            coap::Refusal::Nameless => CoapRefusal::Nameless,
            coap::Refusal::Unknown => CoapRefusal::UnknownDevice,
            coap::Refusal::Disabled => CoapRefusal::Disabled,
            coap::Refusal::KeyLength => CoapRefusal::KeyLength,
            coap::Refusal::Undecryptable => CoapRefusal::Undecryptable,
            coap::Refusal::Unproven => CoapRefusal::Unproven,
            coap::Refusal::Signature => CoapRefusal::WrongSignature,
            coap::Refusal::Stale => CoapRefusal::StaleTimestamp,
            coap::Refusal::TokenMissing => CoapRefusal::TokenMissing,
            coap::Refusal::Token(TokenError::Expired) => CoapRefusal::ExpiredToken,
            coap::Refusal::Token(TokenError::Form | TokenError::Wrong) => CoapRefusal::WrongToken,
            coap::Refusal::TooOld => CoapRefusal::TooOld,
        }
    }
}

label! {
    "reason" for DropReason {
        QueueAway = "queue_away",
        AckTimeout = "ack_timeout",
        Overload = "overload",
        RegistryAway = "registry_away",
        Draining = "draining",
    }
}

label! {
    /// End of a DTLS handshake.
    "outcome" HandshakeOutcome {
        /// A session began.
        Finished = "finished",
        /// It broke off.
        Failed = "failed",
        /// It was not finished in time.
        TimedOut = "timed_out",
        /// It was not begun: a bound is reached.
        Refused = "refused",
    }
}
