//! Topics: what a device may publish on, and what each topic means.
//!
//! ```
//! use jetlinks_bridge::protocol::topic::{MessageType, Upward, parse_up};
//!
//! let Ok(Upward::Message(route)) = parse_up("/product1/gw1/child/child1/event/alarm", "product1", "gw1") else { panic!() };
//! assert_eq!((route.message_type, route.about(), route.event), (MessageType::Event, "child1", Some("alarm")));
//! ```

mod message_type;
mod parse;
mod route;

pub use message_type::MessageType;
pub use parse::{MessageKind, TOPIC_BYTES_MAX, TopicError, Upward, parse_up, time_sync_reply};
pub use route::Route;
