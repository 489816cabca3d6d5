//! Envelopes as they are stored, and what follows from them.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt;
use serde_json::Value;

use crate::support::caller;

/// The type of what devices of the load send.
const REPORT: &str = "org.jetlinks.device.properties.report";

/// A stored record.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// When the queue took it, nanoseconds since 1970.
    pub(crate) at: i128,
    /// The envelope as it was read.
    pub(crate) text: String,
    /// The same, as JSON.
    pub(crate) envelope: Value,
}

impl Stored {
    /// A record of that time.
    pub(crate) fn new(at: i128, text: String) -> Self {
        let envelope = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { at, text, envelope }
    }

    fn is_report(&self) -> bool {
        self.envelope["type"] == REPORT
    }
}

/// All that the stream holds at this moment, in its order.
pub(crate) fn read_stream(urls: &[String]) -> Vec<Stored> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let client = caller::options(urls).connect(urls).await.expect("the server is there");
        let stream = jetstream::new(client).get_stream("JETLINKS_DEVICE").await.expect("the stream is there");
        let config = OrderedConfig { deliver_policy: DeliverPolicy::All, ..OrderedConfig::default() };
        let consumer = stream.create_consumer(config).await.expect("the stream takes consumers");
        let mut left = consumer.cached_info().num_pending;
        let mut messages = consumer.messages().await.expect("the consumer is there");
        let mut read = Vec::new();
        while left > 0 {
            let message = messages.next().await.expect("there are messages left").expect("the consumer is there");
            let info = message.info().expect("a message of a consumer has a place");
            left = info.pending;
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            read.push(Stored::new(info.published.unix_timestamp_nanos(), text));
        }
        read
    })
}

/// The longest time between two reports that were stored one after the other.
pub(crate) fn longest_gap(stored: &[Stored]) -> Duration {
    let mut times: Vec<i128> = stored.iter().filter(|stored| stored.is_report()).map(|stored| stored.at).collect();
    times.sort_unstable();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    Duration::from_nanos(u64::try_from(longest).unwrap_or_default())
}

/// The session in which each device is online, by the rule that consumers follow (docs/wire.md): the last `online`
/// counts, and an `offline` of the same session ends it.
pub(crate) fn online(stored: &[Stored]) -> HashMap<String, String> {
    let mut sessions = HashMap::new();
    for Stored { envelope, .. } in stored {
        let of = |member: &str| envelope[member].as_str().unwrap_or_default().to_owned();
        match of("type").as_str() {
            "org.jetlinks.device.online" => drop(sessions.insert(of("deviceid"), of("sessionid"))),
            "org.jetlinks.device.offline" if sessions.get(&of("deviceid")) == Some(&of("sessionid")) => {
                sessions.remove(&of("deviceid"));
            }
            _ => {}
        }
    }
    sessions
}
