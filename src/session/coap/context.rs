//! Context of every call of an endpoint, and the events that it reports.

use std::fmt;

use super::{Outbox, PeerKey, TokenError};
use crate::codec::coap::Code;
use crate::protocol::auth::ClockOff;
use crate::protocol::child::Children;
use crate::protocol::envelope::Encoder;
use crate::protocol::limit::{Limits, Load, Now};
use crate::protocol::uplink::Uplink;
use crate::session::mqtt;
use crate::session::step::Step;

/// The world around an endpoint, lent for one call.
pub struct Context<'a> {
    /// The time.
    pub now: Now,
    /// The bounds. Of one connection's bounds none applies: a peer has its own in [`Settings`](super::Settings).
    pub limits: &'a Limits,
    /// Records and bytes that the worker holds. Bytes of unauthenticated requests count as bytes alone.
    pub load: &'a mut Load,
    /// Makes envelopes; its clock must be set to `now`.
    pub encoder: &'a mut Encoder,
    /// Where records go.
    pub uplink: &'a mut dyn Uplink,
    /// Children in the registry.
    pub children: &'a dyn Children,
    /// Counters and log.
    pub observer: &'a mut dyn Observer,
    /// Whether an operator follows a device: [`Observer::step`] is called then, and only then.
    pub is_followed: bool,
    /// Datagrams to send.
    pub send: &'a mut Outbox,
}

/// Why a request was refused. For the log: the device is told 4.01 whatever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Option 2100 is missing or no id.
    Nameless,
    /// The registry does not know the device.
    Unknown,
    /// The device is disabled.
    Disabled,
    /// The device's key has not 16 bytes, so it cannot encrypt.
    KeyLength,
    /// The body cannot be decrypted with the device's key.
    Undecryptable,
    /// The decrypted body is no JSON object, so nothing shows that it was encrypted with the device's key.
    Unproven,
    /// The request for a token is signed with something else.
    Signature,
    /// The request for a token names no time near that of the bridge.
    Stale,
    /// Option 2111 is missing.
    TokenMissing,
    /// The token is not the device's, or no longer.
    Token(TokenError),
    /// The timestamp of the body is older than is taken.
    TooOld,
}

impl Refusal {
    /// The reason as a sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Refusal::Nameless => "option 2100 is missing or no device id",
            Refusal::Unknown => "the registry knows no device with this id",
            Refusal::Disabled => "the device is disabled in the registry",
            Refusal::KeyLength => "the secureKey has not 16 bytes: the device cannot use CoAP without DTLS",
            Refusal::Undecryptable => {
                "the body does not decrypt: it has another key, mode (AES-128 in ECB) or padding (PKCS#7)"
            }
            Refusal::Unproven => "the body decrypts to no JSON object: it has another key, or is none",
            Refusal::Signature => "option 2110 is not the MD5 of payload and secureKey together",
            Refusal::Stale => "the payload names no time",
            Refusal::TokenMissing => "option 2111 is missing: a token comes from POST /auth",
            Refusal::Token(TokenError::Form) => "option 2111 is not a token of 32 hex digits",
            Refusal::Token(TokenError::Wrong) => {
                "the token is of another device, another secureKey or another dtls.token_secret"
            }
            Refusal::Token(TokenError::Expired) => "the token has expired: another one comes from POST /auth",
            Refusal::TooOld => "the timestamp is older than coap.max_age",
        }
    }
}

/// A refused request, for counters and log. Shown, it is a sentence that says what is wrong, without a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused<'a> {
    /// The reason.
    pub refusal: Refusal,
    /// Product of the device, where the registry knows it.
    pub product: Option<&'a str>,
    /// Description of the body, the option or the timestamp, where that says more than the reason.
    pub hint: Option<&'static str>,
    /// Difference of the device's clock, where its timestamp is the reason.
    pub clock_off: Option<ClockOff>,
}

impl Refused<'_> {
    /// A refusal of which nothing more is known.
    pub fn new(refusal: Refusal) -> Self {
        Self { refusal, product: None, hint: None, clock_off: None }
    }
}

impl fmt::Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.hint.unwrap_or(self.refusal.sentence());
        match self.clock_off {
            Some(off) => write!(f, "{text} ({off})"),
            None => f.write_str(text),
        }
    }
}

/// Why a NON was dropped: its sender is told 5.03, and need not listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// The queue does not take records.
    QueueAway,
    /// The queue did not acknowledge in time.
    AckTimeout,
    /// A bound of the endpoint is reached.
    Overload,
    /// The registry does not answer.
    RegistryAway,
    /// The replica is shutting down.
    Draining,
}

/// Something worth counting; some are worth a line in the log, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// The events of sessions: received, rejected, foreign, stored, given up unacknowledged.
    Message(mqtt::Event<'a>),
    /// A datagram that is no CoAP message, or one that nobody asked for.
    Noise,
    /// A request that was answered before, or is being answered.
    Duplicate,
    /// A request was refused, and answered 4.01.
    Refused(Refused<'a>),
    /// A device was given a token.
    TokenIssued,
    /// A request had the token of its device.
    TokenAccepted,
    /// A NON is lost.
    Dropped(DropReason),
    /// A request has its answer.
    Answered(Code),
    /// An answer was sent again, as the device did not acknowledge it.
    Retransmitted,
}

/// Counts and logs.
pub trait Observer {
    /// Takes note; `device` is empty where it is not known. Must not block.
    fn event(&mut self, peer: PeerKey, device: &str, event: Event<'_>);

    /// Takes note of a step for those who follow a device. Must not block.
    fn step(&mut self, _peer: PeerKey, _step: &Step<'_>) {}
}
