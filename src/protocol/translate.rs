//! From a published topic and payload to a message, an answer or a rejection: one function for MQTT sessions, CoAP requests and
//! `explain`.
//!
//! 1. The topic is parsed; one of another device is [`Translated::Foreign`].
//! 2. A payload that was too large to be read is rejected.
//! 3. Children on the topic are looked up in the registry.
//! 4. The payload is decoded by the fields of its type.

use super::child::{Children, ForeignChild, product_below};
use super::envelope::{Reason, Rejection};
use super::id::ProductId;
use super::message::{Message, Undecodable, decode, time_sync_answer};
use super::topic::{MessageKind, Route, TopicError, Upward, parse_up};

/// A message as a device published it.
#[derive(Clone, Copy)]
pub struct Published<'s, 'a> {
    /// Product of the connected device, as its topics name it.
    pub product: &'s str,
    /// The connected device.
    pub device: &'s str,
    /// The topic as received.
    pub topic: &'a str,
    /// The payload as received; `None` when it was too large to be read.
    pub payload: Option<&'a [u8]>,
    /// The limit that is named when it was, in bytes.
    pub packet_bytes_max: usize,
    /// Time of receipt, ms since 1970.
    pub now_ms: u64,
}

/// A published message, as the protocol reads it.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and is never stored")]
pub enum Translated<'a> {
    /// A message for the queue.
    Message {
        /// Its topic.
        route: Route<'a>,
        /// Its payload.
        message: Message<'a>,
        /// The registry's product of the child that it is about.
        about_product: Option<ProductId>,
    },
    /// A question for the time; the answer, as JSON.
    TimeSync(Vec<u8>),
    /// Something that becomes a rejected envelope.
    Rejected(Box<Rejected<'a>>),
    /// The topic belongs to another device: nothing is written.
    Foreign,
}

/// A message that is rejected.
#[derive(Debug)]
pub struct Rejected<'a> {
    /// Type of the message, as far as its topic says.
    pub kind: MessageKind,
    /// Its topic taken apart; `None` when that does not lead to a message.
    pub route: Option<Route<'a>>,
    /// The reason.
    pub reason: Reason,
    /// The mistake, for people.
    pub detail: String,
    topic: &'a str,
    payload: Option<&'a [u8]>,
}

impl Rejected<'_> {
    /// The content of the rejected envelope.
    pub fn rejection(&self) -> Rejection<'_> {
        // The payload of what is too large is left out; it may be the topic that is.
        let payload = self.payload.filter(|_| self.reason != Reason::TooLarge);
        Rejection { topic: self.topic, payload, reason: self.reason, detail: &self.detail }
    }
}

/// Translates a published message.
#[inline]
pub fn translate<'a>(published: Published<'_, 'a>, children: &dyn Children) -> Translated<'a> {
    let Published { topic, payload, now_ms, .. } = published;
    let rejected = |kind, route, reason, detail| {
        Translated::Rejected(Box::new(Rejected { kind, route, reason, detail, topic, payload }))
    };
    let upward = match parse_up(topic, published.product, published.device) {
        Ok(upward) => upward,
        Err(TopicError::Foreign) => return Translated::Foreign,
        Err(error @ TopicError::Unknown) => {
            return rejected(MessageKind::Unknown, None, Reason::UnknownTopic, error.to_string());
        }
        Err(error @ TopicError::TooLarge) => {
            return rejected(MessageKind::Unknown, None, Reason::TooLarge, error.to_string());
        }
    };
    let kind = MessageKind::from(&upward);
    let Some(bytes) = payload else {
        let detail = format!("the message has more than {} bytes", published.packet_bytes_max);
        return rejected(kind, None, Reason::TooLarge, detail);
    };
    let undecodable = |route, error: Undecodable| rejected(kind, route, Reason::Undecodable, error.to_string());
    match upward {
        Upward::TimeSync => match time_sync_answer(bytes, now_ms) {
            Ok(answer) => Translated::TimeSync(answer),
            Err(error) => undecodable(None, error),
        },
        Upward::Message(route) => match product_below(children, route.device, &route.children) {
            Ok(about_product) => match decode(&route, bytes, now_ms) {
                Ok(message) => Translated::Message { route, message, about_product },
                Err(error) => undecodable(Some(route), error),
            },
            Err(ForeignChild) => {
                let detail = "the registry binds this child to another gateway, or knows it as a device of its own";
                rejected(kind, None, Reason::ForeignChild, detail.to_owned())
            }
        },
    }
}
