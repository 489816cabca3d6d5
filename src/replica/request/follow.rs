//! Followers on other replicas.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often the replica that asked says that it still wants lines.
pub const RENEWAL: Duration = Duration::from_secs(3);

/// Time after which the others tell nothing any more without that.
pub const LEASE: Duration = Duration::from_secs(10);

/// Pause between two batches of lines.
pub const FOLLOWED_EVERY: Duration = Duration::from_millis(100);

/// Lines in a batch at most: 200 a second for each follower. More wait, and are dropped and counted where too many do.
pub const FOLLOWED_PER_BATCH: usize = 20;

/// Bytes of the lines of a batch at most; less where the server takes no messages as large.
pub const FOLLOWED_BYTES_MAX: usize = 256 * 1024;

/// Replicas whose batches are told apart for one follower; those of further ones are ignored.
const REPLICAS_MAX: usize = 1_024;

/// Something to follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// Unique id of the follower.
    pub id: String,
    /// Steps that it wants to see.
    pub filter: Filter,
}

/// Steps that an operator wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Envelopes that are handed to the queue. Each part that is set must fit.
    Envelopes {
        /// The product that they name.
        product: Option<String>,
        /// The device that they are about, or its gateway.
        device: Option<String>,
        /// Their type, or its end behind a dot.
        kind: Option<String>,
    },
    /// Everything that happens to a device.
    #[serde(untagged)]
    Trace(Subject),
}

/// The devices whose steps an operator wants to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// That device: connected itself, or as a child.
    Device(String),
    /// The devices of that product.
    Product(String),
    /// Whoever is connected from there; without a port, from any port of it.
    Address(IpAddr, Option<u16>),
}

/// Some lines, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// JSON, one line each.
    pub lines: Vec<String>,
    /// Lines that were dropped among them.
    pub dropped: u64,
}

impl Batch {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.dropped == 0
    }
}

/// Lines of a follower on another replica. Dropping it ends the following.
pub trait FollowedLines: Send {
    /// Takes lines out: as many at most, with as many bytes at most. A line that has more by itself is dropped.
    fn take(&mut self, lines_max: usize, bytes_max: usize) -> Batch;
}

/// Memory of the batches that a follower got: one that is recorded and said again has no effect.
#[derive(Debug, Default)]
pub struct Repetitions {
    last: HashMap<String, u64>,
}

impl Repetitions {
    /// Whether a batch of that replica is newer than all before.
    pub fn is_new(&mut self, replica: &str, number: u64) -> bool {
        if let Some(last) = self.last.get_mut(replica) {
            let is_new = number > *last;
            *last = number.max(*last);
            return is_new;
        }
        let has_room = self.last.len() < REPLICAS_MAX;
        if has_room {
            self.last.insert(replica.to_owned(), number);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_one_name_on_its_way() {
        let text = |text: &str| text.to_owned();
        let ip = "::1".parse().expect("an address");
        for (filter, written) in [
            (Filter::Trace(Subject::Device(text("d"))), r#"{"device":"d"}"#),
            (Filter::Trace(Subject::Product(text("p"))), r#"{"product":"p"}"#),
            (Filter::Trace(Subject::Address(ip, Some(7))), r#"{"address":["::1",7]}"#),
            (Filter::Trace(Subject::Address(ip, None)), r#"{"address":["::1",null]}"#),
            (
                Filter::Envelopes { product: Some(text("p")), device: None, kind: None },
                r#"{"envelopes":{"product":"p","device":null,"kind":null}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&filter).unwrap(), written);
            assert_eq!(serde_json::from_str::<Filter>(written).unwrap(), filter);
        }
        assert!(serde_json::from_str::<Filter>(r#"{"everything":null}"#).is_err());
    }

    #[test]
    fn a_batch_that_is_said_again_is_not_shown_again() {
        let mut repetitions = Repetitions::default();
        let mut taken = |replica: &str, numbers: &[u64]| -> Vec<bool> {
            numbers.iter().map(|number| repetitions.is_new(replica, *number)).collect()
        };
        assert_eq!(taken("a", &[5, 6, 5, 6, 9, 7]), [true, true, false, false, true, false]);
        assert_eq!(taken("b", &[5, 5]), [true, false]);
        (2..REPLICAS_MAX).for_each(|replica| assert_eq!(taken(&replica.to_string(), &[1]), [true]));
        assert_eq!(taken("one more", &[1]), [false]);
    }
}
