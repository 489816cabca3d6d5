//! Topics on which devices publish, and the meaning of each.
//!
//! ```
//! use jetlinks_bridge::protocol::topic::{MessageType, Upward, parse_up};
//!
//! let Ok(Upward::Message(route)) = parse_up("/product1/gw1/child/child1/event/alarm", "product1", "gw1") else { panic!() };
//! assert_eq!((route.message_type, route.about(), route.event), (MessageType::Event, "child1", Some("alarm")));
//! ```

mod message_type;

pub use message_type::MessageType;

use crate::protocol::id::is_id_segment;

/// Longest topic in bytes that is taken for a message.
pub const TOPIC_BYTES_MAX: usize = 512;

/// A topic taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    /// The topic as it was received.
    pub topic: &'a str,
    /// Product of the connected device, as the topic names it.
    pub product: &'a str,
    /// The connected device.
    pub device: &'a str,
    /// Children between the connected gateway and the addressed child, that one last; empty (and then not allocated) for the
    /// connected device itself.
    pub children: Vec<&'a str>,
    /// Type of the message that the topic carries.
    pub message_type: MessageType,
    /// The event's id; present exactly for [`MessageType::Event`].
    pub event: Option<&'a str>,
}

impl<'a> Route<'a> {
    /// The device that the message is about: the last child, else the connected device.
    pub fn about(&self) -> &'a str {
        self.children.last().copied().unwrap_or(self.device)
    }
}

/// Meaning of a topic on which a device published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upward<'a> {
    /// A message for the queue.
    Message(Route<'a>),
    /// A question for the time, to be answered at once on [`time_sync_reply`].
    TimeSync,
}

/// Kind of a device's message, as far as its topic says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// A message of that type.
    Type(MessageType),
    /// A question for the time.
    TimeSync,
    /// Its topic says nothing.
    Unknown,
}

impl From<&Upward<'_>> for MessageKind {
    fn from(upward: &Upward<'_>) -> Self {
        match upward {
            Upward::Message(route) => MessageKind::Type(route.message_type),
            Upward::TimeSync => MessageKind::TimeSync,
        }
    }
}

/// The topic on which a device is told the time.
pub fn time_sync_reply(product: &str, device: &str) -> String {
    format!("/{product}/{device}/time-sync/reply")
}

/// Error of a topic without a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// It is another product's or device's, or has no two leading segments: the connection must be closed.
    #[error("the topic belongs to another product or device")]
    Foreign,
    /// It is the device's own, and carries no message that devices send.
    #[error("devices send no message on this topic")]
    Unknown,
    /// It is the device's own, and longer than [`TOPIC_BYTES_MAX`] bytes.
    #[error("the topic has more than {TOPIC_BYTES_MAX} bytes")]
    TooLarge,
}

/// Takes apart the topic on which a device of this product published. Allocates only for children.
///
/// The leading `/` may be missing and one trailing `/` is ignored; nothing else is normalised.
///
/// # Errors
/// [`TopicError::Foreign`] is found first, so a long topic of somebody else is still foreign.
pub fn parse_up<'a>(topic: &'a str, product: &str, device: &str) -> Result<Upward<'a>, TopicError> {
    let path = topic.strip_prefix('/').unwrap_or(topic);
    let path = path.strip_suffix('/').unwrap_or(path);
    let (own_product, rest) = segment(path);
    let (own_device, rest) = segment(rest.ok_or(TopicError::Foreign)?);
    if own_product != product || own_device != device || own_product.is_empty() || own_device.is_empty() {
        return Err(TopicError::Foreign);
    }
    if topic.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLarge);
    }
    let mut rest = rest.ok_or(TopicError::Unknown)?;
    let mut children = Vec::new();
    while let Some(behind) = rest.strip_prefix("child/").or_else(|| rest.strip_prefix("child-reply/")) {
        let (child, behind) = segment(behind);
        if !is_id_segment(child) || !is_clean(child) {
            return Err(TopicError::Unknown);
        }
        children.push(child);
        rest = behind.ok_or(TopicError::Unknown)?;
    }
    if rest == "time-sync" && children.is_empty() {
        return Ok(Upward::TimeSync);
    }
    let (message_type, event) = match rest.strip_prefix("event/") {
        Some(event) if !event.is_empty() && !event.contains('/') && is_clean(event) => {
            (MessageType::Event, Some(event))
        }
        _ => (message_type_up(rest).ok_or(TopicError::Unknown)?, None),
    };
    Ok(Upward::Message(Route { topic, product: own_product, device: own_device, children, message_type, event }))
}

fn segment(path: &str) -> (&str, Option<&str>) {
    match memchr::memchr(b'/', path.as_bytes()) {
        Some(at) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// Whether a segment can become an id, an attribute of an envelope and a part of a topic that goes down.
fn is_clean(segment: &str) -> bool {
    !segment.chars().any(|c| matches!(c, '+' | '#') || c.is_control())
}

fn message_type_up(suffix: &str) -> Option<MessageType> {
    Some(match suffix {
        "properties/report" => MessageType::ReportProperty,
        "properties/read/reply" => MessageType::ReadPropertyReply,
        "properties/write/reply" | "properties/wirte/reply" => MessageType::WritePropertyReply,
        "function/invoke/reply" => MessageType::InvokeFunctionReply,
        "tags" => MessageType::UpdateTag,
        "log" => MessageType::Log,
        "direct" => MessageType::Direct,
        "online" | "connected" => MessageType::Online,
        "offline" | "disconnect" | "disconnected" => MessageType::Offline,
        "register" => MessageType::Register,
        "unregister" => MessageType::Unregister,
        "metadata/derived" => MessageType::DerivedMetadata,
        "firmware/upgrade/reply" => MessageType::UpgradeFirmwareReply,
        "firmware/upgrade/progress" => MessageType::UpgradeFirmwareProgress,
        "firmware/pull" => MessageType::RequestFirmware,
        "firmware/report" => MessageType::ReportFirmware,
        "firmware/read/reply" => MessageType::ReadFirmwareReply,
        "disconnect/reply" => MessageType::DisconnectReply,
        "state-check/reply" => MessageType::StateCheckReply,
        "collector/report" => MessageType::ReportCollector,
        "collector/read/reply" => MessageType::ReadCollectorDataReply,
        "collector/write/reply" => MessageType::WriteCollectorDataReply,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(topic: &str) -> Result<(MessageType, Vec<&str>, Option<&str>), TopicError> {
        match parse_up(topic, "p", "d")? {
            Upward::Message(route) => Ok((route.message_type, route.children, route.event)),
            Upward::TimeSync => panic!("{topic} is no message"),
        }
    }

    #[test]
    fn every_type_that_goes_up_is_found_under_its_suffix_and_no_other() {
        for message_type in MessageType::all().filter(|message_type| *message_type != MessageType::Event) {
            let found = route(&format!("/p/d/{}", message_type.suffix())).map(|found| found.0);
            match message_type {
                MessageType::Disconnect => assert_eq!(found, Ok(MessageType::Offline)),
                _ if message_type.goes_up() => assert_eq!(found, Ok(message_type)),
                _ => assert_eq!(found, Err(TopicError::Unknown)),
            }
        }
    }

    #[test]
    fn the_leading_slash_may_be_missing_and_one_trailing_slash_is_ignored() {
        for topic in ["/p/d/log", "p/d/log", "/p/d/log/", "p/d/log/"] {
            assert_eq!(route(topic).map(|found| found.0), Ok(MessageType::Log), "{topic}");
        }
        for topic in ["/p/d/log//", "/p/d//log", "/p/d/Log", "/p/d/log ", "/p/d", "/p/d/", "/p/d/*"] {
            assert_eq!(route(topic), Err(TopicError::Unknown), "{topic}");
        }
    }

    #[test]
    fn another_products_or_devices_topic_is_foreign_however_long_it_is() {
        let long = format!("/p/e/{}", "x".repeat(600));
        for topic in
            ["", "/", "/p", "/p/", "//p/d/log", "/P/d/log", "/p/e/log", "/pp/d/log", "/p/dd/log", long.as_str()]
        {
            assert_eq!(route(topic), Err(TopicError::Foreign), "{topic}");
        }
    }

    #[test]
    fn a_topic_of_the_device_itself_has_at_most_512_bytes() {
        let fits = format!("/p/d/event/{}", "x".repeat(512 - 11));
        assert_eq!(route(&fits).map(|found| found.0), Ok(MessageType::Event));
        assert_eq!(route(&format!("{fits}x")), Err(TopicError::TooLarge));
    }

    #[test]
    fn children_may_be_nested_and_mixed_with_their_alias() {
        let found = route("/p/d/child/a/child-reply/b/child/c/event/e");
        assert_eq!(found, Ok((MessageType::Event, vec!["a", "b", "c"], Some("e"))));
        let long = format!("/p/d/child/{}/log", "x".repeat(65));
        let unknown =
            ["/p/d/child/c", "/p/d/child/c/child", "/p/d/child//log", "/p/d/child/c/time-sync", "/p/d/child", &long];
        for topic in unknown {
            assert_eq!(route(topic), Err(TopicError::Unknown), "{topic}");
        }
    }

    #[test]
    fn an_event_has_exactly_one_segment_of_printable_text() {
        assert_eq!(route("/p/d/event/火").map(|found| found.2), Ok(Some("火")));
        for topic in ["/p/d/event", "/p/d/event/", "/p/d/event/a/b", "/p/d/event/a\u{1}", "/p/d/child/a\u{7f}/log"] {
            assert_eq!(route(topic), Err(TopicError::Unknown), "{topic:?}");
        }
    }

    #[test]
    fn the_time_is_told_to_the_device_itself() {
        assert_eq!(parse_up("/p/d/time-sync", "p", "d"), Ok(Upward::TimeSync));
    }
}
