//! How large a record may be.
//!
//! Kafka's limit (`max.message.bytes` of the topic) is about a batch; a record that is alone in its batch costs
//! [`batch_bytes`]. librdkafka fills a batch up to `batch.size` and never puts a record to others with which it would be
//! larger than that, so with a `batch.size` within the limit only a record that is too large by itself is refused. Where
//! the limit is not known, because the brokers do not tell, each batch that they refuse halves `batch.size`.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{BorrowedMessage, Headers, Message};

/// Bytes of a batch at most where nothing speaks for less. Five are under way at a time, and a link of 100 kB/s has to carry
/// them before their request times out, after five seconds.
pub(crate) const BATCH_BYTES: usize = 64 * 1024;

/// The same once the link has shown that it carries [`FAST`]. While five full batches are under way and more records wait
/// librdkafka's thread looks for room without pause, so batches should be as large as five may be; this is librdkafka's own
/// size. With half of it a message costs 5 % more processor time at 130,000 a second.
const FAST_BATCH_BYTES: usize = 1_000_000;

/// Bytes a second that make a link fast: five large batches take no longer than three seconds there.
pub(crate) const FAST: usize = 2_000_000;

/// Below this many bytes each record has a batch of its own.
const BATCH_BYTES_MIN: usize = 1024;

/// Bytes of a batch beside its records (Kafka protocol, Record Batch).
const BATCH_HEADER: usize = 61;

/// Bytes of one record that librdkafka takes unless told otherwise.
const RECORD_BYTES: usize = 1_000_000;

/// librdkafka compares this with a record before it knows what is around it.
const RECORD_MARGIN: usize = 1_024;

/// How long one request to the brokers may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// The limits that one producer works with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    /// By topic, as the brokers said; `None` where they do not say.
    topics: Vec<(String, Option<usize>)>,
    /// The user's `batch.size`.
    own: Option<usize>,
    /// Whether the link carries [`FAST`].
    is_fast: bool,
    /// Half of what was refused, where that says more than the brokers do.
    learned: Option<usize>,
    /// `batch.size`; 1 gives each record a batch of its own.
    pub(crate) batch_bytes: usize,
    /// The user's `message.max.bytes`, or that of librdkafka.
    largest: usize,
    /// Whether batches are packed, so that their size says nothing before.
    is_packed: bool,
}

impl Limits {
    /// Before anything is known of these topics; `config` has the user's properties.
    pub(crate) fn new(topics: &[&str], config: &ClientConfig) -> Self {
        let number = |name| config.get(name).and_then(|value| value.parse().ok());
        let own = number("batch.size");
        Self {
            topics: topics.iter().map(|topic| ((*topic).to_owned(), None)).collect(),
            own,
            is_fast: false,
            learned: None,
            batch_bytes: own.unwrap_or(BATCH_BYTES),
            largest: number("message.max.bytes").unwrap_or(0),
            is_packed: ["compression.codec", "topic.compression.codec", "topic.compression.type"]
                .iter()
                .any(|name| config.get(name).is_some_and(|codec| codec != "none")),
        }
    }

    /// Asks the brokers, and keeps batches within what they say. Blocks.
    pub(crate) fn ask(&mut self, config: &ClientConfig) {
        self.hear(&ask(config, &self.topics()));
    }

    /// The topics whose limits count.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.topics.iter().map(|(topic, _)| topic.clone()).collect()
    }

    /// Keeps batches within what the brokers say, in the order of the topics. Where they do not tell nothing changes.
    pub(crate) fn hear(&mut self, told: &[Option<usize>]) {
        for ((_, limit), told) in self.topics.iter_mut().zip(told) {
            if told.is_some() && limit != told {
                (*limit, self.learned) = (*told, None);
            }
        }
        let most = self.own.unwrap_or(if self.is_fast { FAST_BATCH_BYTES } else { BATCH_BYTES });
        let known = self.topics.iter().filter_map(|(_, limit)| *limit).chain(self.learned);
        self.batch_bytes = known.chain([most]).min().unwrap_or(most).max(1);
    }

    /// Notes whether the link carries [`FAST`].
    pub(crate) fn note_speed(&mut self, is_fast: bool) {
        self.is_fast = is_fast;
        self.hear(&[]);
    }

    /// Makes batches smaller, after the brokers refused one of this size that was not a single record.
    pub(crate) fn shrink(&mut self, refused: usize) {
        if self.batch_bytes >= refused {
            let half = refused / 2;
            self.learned = Some(if half < BATCH_BYTES_MIN { 1 } else { half });
            self.hear(&[]);
        }
    }

    /// The bytes that no record to this topic may have: [`usize::MAX`] where the limit is not known, or compression may
    /// make a record small enough.
    pub(crate) fn of(&self, topic: &str) -> usize {
        let known = self.topics.iter().find(|(own, _)| own == topic).and_then(|(_, limit)| *limit);
        known.filter(|_| !self.is_packed).unwrap_or(usize::MAX)
    }

    /// Puts them into the properties of a producer.
    pub(crate) fn apply(&self, config: &mut ClientConfig) {
        config.set("batch.size", self.batch_bytes.to_string());
        let largest = self.topics.iter().filter_map(|(_, limit)| *limit).max().unwrap_or_default() + RECORD_MARGIN;
        if self.largest == 0 && largest > RECORD_BYTES {
            // librdkafka takes no more than that.
            config.set("message.max.bytes", largest.min(1_000_000_000).to_string());
        }
    }
}

/// Asks the brokers for `max.message.bytes` of these topics; `None` where they do not tell. Blocks.
pub(crate) fn ask(config: &ClientConfig, topics: &[String]) -> Vec<Option<usize>> {
    let Ok(admin) = config.create::<AdminClient<DefaultClientContext>>() else { return vec![None; topics.len()] };
    topics.iter().flat_map(|topic| settings(&admin, topic, ["max.message.bytes"], REQUEST_TIMEOUT)).collect()
}

/// Settings of a topic that are numbers; `None` for those that the brokers do not tell. Blocks.
pub(crate) fn settings<const N: usize>(
    admin: &AdminClient<DefaultClientContext>,
    topic: &str,
    names: [&str; N],
    timeout: Duration,
) -> [Option<usize>; N] {
    let describe = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().ok()?;
        let options = AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
        runtime.block_on(admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options)).ok()?.pop()
    };
    match describe() {
        Some(Ok(resource)) => names.map(|name| resource.get(name)?.value.as_ref()?.parse().ok()),
        Some(Err(code)) => {
            tracing::debug!(topic, %code, "Kafka does not tell the settings of a topic");
            [None; N]
        }
        None => [None; N],
    }
}

/// The size of a batch of this record alone, in bytes, as brokers compare it with their limit (Kafka protocol, Record
/// Batch). Exact but for the time and the number of the record, which are both 0 in a batch of its own.
pub(crate) fn batch_bytes(message: &BorrowedMessage<'_>) -> usize {
    let sized = |length: usize| varint(length) + length;
    let (mut count, mut bytes) = (0, 0);
    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
        count += 1;
        bytes += sized(header.key.len()) + sized(header.value.unwrap_or_default().len());
    }
    let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
    // Attributes, time, number.
    let record = 3 + sized(key.len()) + sized(value.len()) + varint(count) + bytes;
    BATCH_HEADER + sized(record)
}

/// Bytes of a number as Kafka writes it: zigzag, seven bits a byte.
fn varint(number: usize) -> usize {
    let bits = usize::BITS as usize - (number * 2).leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_a_byte_for_every_seven_bits_and_its_sign() {
        for (number, bytes) in [(0, 1), (63, 1), (64, 2), (8191, 2), (8192, 3), (1 << 20, 4)] {
            assert_eq!(varint(number), bytes, "{number}");
        }
    }

    fn limits(properties: &[(&str, &str)]) -> Limits {
        let mut config = ClientConfig::new();
        for (name, value) in properties {
            config.set(*name, *value);
        }
        Limits::new(&["a", "b"], &config)
    }

    #[test]
    fn batches_stay_within_the_smallest_limit_that_is_known() {
        let mut limits = limits(&[]);
        assert_eq!(limits.batch_bytes, BATCH_BYTES);
        limits.hear(&[Some(1 << 20), None]);
        assert_eq!(limits.batch_bytes, BATCH_BYTES);
        limits.hear(&[Some(1 << 20), Some(20_000)]);
        assert_eq!(limits.batch_bytes, 20_000);
        limits.hear(&[None, None]);
        assert_eq!(limits.batch_bytes, 20_000, "brokers that do not tell change nothing");
        limits.hear(&[Some(1 << 20), Some(1 << 20)]);
        assert_eq!(limits.batch_bytes, BATCH_BYTES, "it was raised");
    }

    #[test]
    fn batches_are_larger_on_a_fast_link_but_for_what_the_brokers_and_the_user_say() {
        let (mut free, mut own) = (limits(&[]), limits(&[("batch.size", "1000")]));
        for limits in [&mut free, &mut own] {
            limits.note_speed(true);
        }
        assert_eq!((free.batch_bytes, own.batch_bytes), (FAST_BATCH_BYTES, 1000));
        free.hear(&[Some(1 << 20), Some(300_000)]);
        assert_eq!(free.batch_bytes, 300_000);
        free.note_speed(false);
        assert_eq!(free.batch_bytes, BATCH_BYTES);
    }

    #[test]
    fn a_refused_batch_halves_the_next_down_to_one_record_until_the_brokers_say_something_new() {
        let mut limits = limits(&[]);
        let mut sizes = Vec::new();
        while limits.batch_bytes > 1 {
            limits.shrink(limits.batch_bytes);
            sizes.push(limits.batch_bytes);
        }
        assert_eq!(sizes, [32_768, 16_384, 8_192, 4_096, 2_048, 1_024, 1]);
        limits.hear(&[None, Some(20_000)]);
        assert_eq!(limits.batch_bytes, 20_000);
        limits.shrink(64 * 1024);
        assert_eq!(limits.batch_bytes, 20_000, "one that was larger was refused");
        limits.shrink(20_000);
        limits.hear(&[None, Some(20_000)]);
        assert_eq!(limits.batch_bytes, 10_000, "what they say again is no news");
    }

    #[test]
    fn a_record_is_judged_beforehand_where_its_limit_is_known_and_nothing_packs_it() {
        let told = [Some(1_000), None];
        let mut plain = limits(&[("compression.codec", "none")]);
        assert_eq!(plain.of("a"), usize::MAX);
        plain.hear(&told);
        assert_eq!(["a", "b", "c"].map(|topic| plain.of(topic)), [1_000, usize::MAX, usize::MAX]);
        let mut packed = limits(&[("compression.codec", "lz4")]);
        packed.hear(&told);
        assert_eq!(packed.of("a"), usize::MAX);
    }

    #[test]
    fn librdkafka_takes_what_a_topic_takes() {
        let applied = |limits: &Limits| {
            let mut config = ClientConfig::new();
            limits.apply(&mut config);
            (config.get("batch.size").map(str::to_owned), config.get("message.max.bytes").map(str::to_owned))
        };
        let (mut free, mut own) = (limits(&[]), limits(&[("message.max.bytes", "2000000"), ("batch.size", "1000")]));
        assert_eq!(applied(&free), (Some("65536".to_owned()), None));
        for limits in [&mut free, &mut own] {
            limits.hear(&[Some(5_000_000), Some(1_048_588)]);
        }
        assert_eq!(applied(&free).1.as_deref(), Some("5001024"));
        assert_eq!(applied(&own), (Some("1000".to_owned()), None), "the user's own counts");
    }
}
