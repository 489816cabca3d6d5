//! Lines of the log about what devices do wrong, by product: messages that are rejected, connections and requests that are
//! refused. So that firmware which sends what nobody understands shows, and what is wrong with it.
//!
//! Whatever is wrong is counted here. Once a second the products whose line is due are told, [`LINES_AT_ONCE`] at most:
//! each at once when something of it is wrong, and then once a minute while it goes on. What is right costs nothing.

use std::collections::HashMap;
use std::fmt::{Display, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A product is told of at most this often.
const PAUSE: Duration = Duration::from_secs(60);

/// How often it is looked which lines are due.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Lines that are written at a look: less than the bound of the log on lines of one kind.
const LINES_AT_ONCE: usize = 5;

/// Products that are counted each for itself; what comes of further ones is added up. Each takes some 600 bytes for each of
/// its reasons.
const PRODUCTS_MAX: usize = 50;

/// Bytes of the ids that are kept: as long as an id may be.
const ID_BYTES_MAX: usize = 64;

/// Bytes of the texts that are kept.
const TEXT_BYTES_MAX: usize = 256;

/// Faults of the devices of this process: what they send, and how they connect.
#[derive(Debug)]
pub struct DeviceNotices {
    /// Messages that were rejected.
    pub rejections: Notices,
    /// Connections and requests that were refused.
    pub refusals: Notices,
}

impl DeviceNotices {
    /// None so far.
    pub fn new() -> Self {
        Self { rejections: Notices::new(), refusals: Notices::new() }
    }

    /// Writes the lines that are due.
    pub fn tell(&self) {
        for (about, count, Sample { reason, device, topic, detail, .. }) in self.rejections.take_lines() {
            match about {
                About::Product(product) => tracing::warn!(
                    %product,
                    reason,
                    count,
                    device,
                    topic,
                    detail,
                    "messages of a product are rejected: jetlinks.rejected has them"
                ),
                About::Unknown | About::Others => tracing::warn!(
                    reason,
                    count,
                    device,
                    topic,
                    detail,
                    "messages of further products are rejected: jetlinks.rejected has them"
                ),
            }
        }
        for (about, count, Sample { reason, device, peer, detail, .. }) in self.refusals.take_lines() {
            match about {
                About::Product(product) => {
                    tracing::warn!(%product, reason, count, device, peer, detail, "devices of a product are refused");
                }
                About::Others => {
                    tracing::warn!(reason, count, device, peer, detail, "devices of further products are refused");
                }
                // Strangers are no fault of the fleet: where a port is open to all they never cease.
                About::Unknown => {
                    tracing::info!(reason, count, device, peer, detail, "clients that are no known device are refused");
                }
            }
        }
    }
}

/// Faults of one kind that were not told of yet.
#[derive(Debug)]
pub struct Notices {
    state: Mutex<State>,
}

/// One fault.
pub struct Notice<'a> {
    /// Its reason, of a closed set of words.
    pub reason: &'static str,
    /// The device, as far as it is known.
    pub device: &'a str,
    /// Where it came from.
    pub peer: &'a dyn Display,
    /// The topic of a message, else empty.
    pub topic: &'a str,
    /// The mistake, for people. Written only where the line will show it.
    pub detail: &'a dyn Display,
}

#[derive(Debug)]
struct State {
    products: HashMap<Box<str>, Tally>,
    /// Those without a product that is known.
    unknown: Tally,
    /// Those of further products.
    others: Tally,
    checked: Instant,
}

/// Faults since the last line, by reason.
#[derive(Debug, Default)]
struct Tally {
    samples: Vec<Sample>,
    told: Option<Instant>,
}

/// Faults of one reason: how many, and the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    /// The reason.
    reason: &'static str,
    /// The number of faults.
    count: u64,
    /// Device of the first.
    device: String,
    /// Its address.
    peer: String,
    /// The topic of its message; empty: it was none.
    topic: String,
    /// The mistake.
    detail: String,
}

/// Product of a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    /// This one.
    Product(Box<str>),
    /// None: the device was not known.
    Unknown,
    /// Any but the [`PRODUCTS_MAX`] that are counted.
    Others,
}

/// A line that is due: the commonest reason with its first fault, and the number of all.
type Line = (About, u64, Sample);

impl Notices {
    /// None so far.
    pub fn new() -> Self {
        let (unknown, others) = (Tally::default(), Tally::default());
        let state = State { products: HashMap::new(), unknown, others, checked: Instant::now() };
        Self { state: Mutex::new(state) }
    }

    /// Counts a fault of a device of that product; `None`: it is not known.
    pub fn note(&self, product: Option<&str>, notice: &Notice<'_>) {
        let mut state = self.state();
        let state = &mut *state;
        let tally = match product.map(|product| cut(product, ID_BYTES_MAX)) {
            None => &mut state.unknown,
            Some(product) if state.products.len() < PRODUCTS_MAX || state.products.contains_key(product) => {
                state.products.entry(product.into()).or_default()
            }
            Some(_) => &mut state.others,
        };
        tally.note(notice);
    }

    /// Takes out the lines that are due.
    fn take_lines(&self) -> Vec<Line> {
        self.state().take_lines(Instant::now())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The product that a topic names.
pub fn product_of(topic: &str) -> &str {
    topic.strip_prefix('/').unwrap_or(topic).split('/').next().unwrap_or_default()
}

impl State {
    /// Takes out what is due, and forgets products of which nothing came for a while.
    fn take_lines(&mut self, now: Instant) -> Vec<Line> {
        if now.saturating_duration_since(self.checked) < CHECK_INTERVAL {
            return Vec::new();
        }
        self.checked = now;
        self.products.retain(|_, tally| !tally.samples.is_empty() || !tally.is_due(now));
        let products = self.products.iter_mut().map(|(product, tally)| (About::Product(product.clone()), tally));
        let all = products.chain([(About::Unknown, &mut self.unknown), (About::Others, &mut self.others)]);
        let due = all.filter(|(_, tally)| !tally.samples.is_empty() && tally.is_due(now));
        due.take(LINES_AT_ONCE).filter_map(|(about, tally)| tally.take_line(about, now)).collect()
    }
}

impl Tally {
    fn note(&mut self, notice: &Notice<'_>) {
        if let Some(sample) = self.samples.iter_mut().find(|sample| sample.reason == notice.reason) {
            sample.count += 1;
            return;
        }
        self.samples.push(Sample {
            reason: notice.reason,
            count: 1,
            device: cut(notice.device, ID_BYTES_MAX).to_owned(),
            peer: text(notice.peer),
            topic: cut(notice.topic, TEXT_BYTES_MAX).to_owned(),
            detail: text(notice.detail),
        });
    }

    fn is_due(&self, now: Instant) -> bool {
        self.told.is_none_or(|told| now.saturating_duration_since(told) >= PAUSE)
    }

    fn take_line(&mut self, about: About, now: Instant) -> Option<Line> {
        self.told = Some(now);
        let samples = std::mem::take(&mut self.samples);
        let count = samples.iter().map(|sample| sample.count).sum();
        // Of equally many the first reason.
        let commonest = samples.into_iter().rev().max_by_key(|sample| sample.count)?;
        Some((about, count, commonest))
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

fn text(shown: &dyn Display) -> String {
    let mut text = String::new();
    // Writing into a text does not fail.
    let _written = write!(text, "{shown}");
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(notices: &Notices, topic: &str, reason: &'static str) {
        let notice = Notice { reason, device: "device1", peer: &"127.0.0.1:1", topic, detail: &topic };
        notices.note(Some(product_of(topic)), &notice);
    }

    fn take(notices: &Notices, now: Instant) -> Vec<(About, &'static str, u64, u64)> {
        let lines = notices.state().take_lines(now);
        let mut lines: Vec<_> =
            lines.into_iter().map(|(about, all, sample)| (about, sample.reason, sample.count, all)).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_product_is_told_of_at_once_and_then_once_a_minute_with_what_came_since() {
        let (notices, begin) = (Notices::new(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let product = |name: &str| About::Product(name.into());
        for (topic, reason) in [
            ("/product1/device1/event/e", "undecodable"),
            ("product1/device2/nothing", "unknown_topic"),
            ("/product1/device3/tags", "undecodable"),
            ("/product2/device4/tags", "too_large"),
        ] {
            note(&notices, topic, reason);
        }
        let expected = [(product("product1"), "undecodable", 2, 3), (product("product2"), "too_large", 1, 1)];
        assert_eq!(take(&notices, at(1)), expected);
        (0..500).for_each(|_| note(&notices, "/product1/device1/tags", "unknown_topic"));
        assert_eq!(take(&notices, at(30)), []);
        assert_eq!(take(&notices, at(61)), [(product("product1"), "unknown_topic", 500, 500)]);
        assert_eq!(take(&notices, at(200)), []);
        assert!(notices.state().products.is_empty(), "they are forgotten");
    }

    #[test]
    fn a_line_shows_the_first_fault_of_the_commonest_reason() {
        let notices = Notices::new();
        note(&notices, "/product1/device1/nothing", "unknown_topic");
        (0..3).for_each(|number| note(&notices, &format!("/product1/device1/event/{number}"), "undecodable"));
        let lines = notices.state().take_lines(Instant::now() + CHECK_INTERVAL);
        let [(_, 4, sample)] = &lines[..] else { panic!("{lines:?}") };
        let expected = Sample {
            reason: "undecodable",
            count: 3,
            device: "device1".to_owned(),
            peer: "127.0.0.1:1".to_owned(),
            topic: "/product1/device1/event/0".to_owned(),
            detail: "/product1/device1/event/0".to_owned(),
        };
        assert_eq!(sample, &expected);
    }

    #[test]
    fn a_detail_is_written_for_the_first_fault_of_a_reason_alone() {
        struct Once(std::cell::Cell<usize>);
        impl Display for Once {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.set(self.0.get() + 1);
                f.write_str(&"é".repeat(TEXT_BYTES_MAX))
            }
        }
        let (notices, detail) = (Notices::new(), Once(std::cell::Cell::new(0)));
        for _ in 0..100 {
            let notice = Notice { reason: "wrong", device: "device1", peer: &"", topic: "", detail: &detail };
            notices.note(None, &notice);
        }
        assert_eq!(detail.0.get(), 1);
        let lines = notices.state().take_lines(Instant::now() + CHECK_INTERVAL);
        let [(About::Unknown, 100, sample)] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!(sample.detail.len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn of_many_products_fifty_are_told_of_a_few_at_a_time_and_the_others_together() {
        let (notices, begin) = (Notices::new(), Instant::now());
        (0..1_000).for_each(|number| note(&notices, &format!("/product{number}/device1/tags"), "undecodable"));
        let mut told = Vec::new();
        for second in 1..60 {
            let lines = take(&notices, begin + Duration::from_secs(second));
            assert!(lines.len() <= LINES_AT_ONCE);
            told.extend(lines);
        }
        assert_eq!(told.len(), PRODUCTS_MAX + 1);
        assert_eq!(told.iter().filter(|line| line.0 == About::Others).map(|line| line.2).collect::<Vec<_>>(), [950]);
    }
}
