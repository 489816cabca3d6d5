//! Lines of the log about rejected messages, by product: so that firmware which sends what nobody understands shows.
//!
//! A message that is rejected is counted here. Once a second the products whose line is due are told, [`LINES_AT_ONCE`] at most:
//! each at its first message, and then once a minute while there are more. A message that is understood costs nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::protocol::envelope::Reason;

/// A product is told of at most this often.
const PAUSE: Duration = Duration::from_secs(60);

/// How often it is looked which lines are due.
const LOOK: Duration = Duration::from_secs(1);

/// Lines that are written at a look: less than the bound of the log on lines of one kind.
const LINES_AT_ONCE: usize = 5;

/// Products that are counted each for itself; the messages of further ones are added up. Each takes some 300 bytes.
const PRODUCTS_MAX: usize = 50;

/// Bytes of the ids that are kept: as long as an id may be.
const ID_BYTES_MAX: usize = 64;

/// Reasons, in the order in which they are counted.
const REASONS: [Reason; 5] =
    [Reason::UnknownTopic, Reason::Undecodable, Reason::TooLarge, Reason::ForeignChild, Reason::Refused];

/// Rejected messages of the process that were not told of yet.
#[derive(Debug)]
pub struct Rejections {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    products: HashMap<Box<str>, Tally>,
    /// Those of further products.
    others: Tally,
    looked: Instant,
}

/// Messages since the last line.
#[derive(Debug, Default)]
struct Tally {
    by_reason: [u64; REASONS.len()],
    /// The device of the last one.
    device: String,
    told: Option<Instant>,
}

/// A line that is due.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// `None`: of further products.
    product: Option<Box<str>>,
    reason: Reason,
    count: u64,
    device: String,
}

impl Rejections {
    /// None so far.
    pub fn new() -> Self {
        let state = State { products: HashMap::new(), others: Tally::default(), looked: Instant::now() };
        Self { state: Mutex::new(state) }
    }

    /// Counts a rejected message on that topic.
    pub fn note(&self, topic: &str, device: &str, reason: Reason) {
        let product = cut(topic.strip_prefix('/').unwrap_or(topic).split('/').next().unwrap_or_default());
        let mut state = self.state();
        let state = &mut *state;
        let is_counted = state.products.len() < PRODUCTS_MAX || state.products.contains_key(product);
        let tally = if is_counted { state.products.entry(product.into()).or_default() } else { &mut state.others };
        tally.by_reason[place(reason)] += 1;
        tally.device.clear();
        tally.device.push_str(cut(device));
    }

    /// Writes the lines that are due.
    pub fn tell(&self) {
        let now = Instant::now();
        for Line { product, reason, count, device } in self.state().take_lines(now) {
            let reason = reason.as_str();
            match product {
                Some(product) => tracing::warn!(
                    %product,
                    reason,
                    count,
                    device,
                    "messages of a product are rejected: jetlinks.rejected has them"
                ),
                None => tracing::warn!(
                    reason,
                    count,
                    device,
                    "messages of further products are rejected: jetlinks.rejected has them"
                ),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes out what is due, and forgets products of which nothing came for a while.
    fn take_lines(&mut self, now: Instant) -> Vec<Line> {
        if now.saturating_duration_since(self.looked) < LOOK {
            return Vec::new();
        }
        self.looked = now;
        self.products.retain(|_, tally| tally.count() > 0 || !tally.is_due(now));
        let products = self.products.iter_mut().map(|(product, tally)| (Some(product), tally));
        let all = products.chain([(None, &mut self.others)]);
        let due = all.filter(|(_, tally)| tally.count() > 0 && tally.is_due(now));
        due.take(LINES_AT_ONCE).map(|(product, tally)| tally.take_line(product.cloned(), now)).collect()
    }
}

impl Tally {
    fn count(&self) -> u64 {
        self.by_reason.iter().sum()
    }

    fn is_due(&self, now: Instant) -> bool {
        self.told.is_none_or(|told| now.saturating_duration_since(told) >= PAUSE)
    }

    /// The line with the commonest reason and the number of all.
    fn take_line(&mut self, product: Option<Box<str>>, now: Instant) -> Line {
        let commonest = REASONS.into_iter().max_by_key(|reason| self.by_reason[place(*reason)]);
        let line = Line {
            product,
            reason: commonest.unwrap_or(Reason::Undecodable),
            count: self.count(),
            device: std::mem::take(&mut self.device),
        };
        (self.by_reason, self.told) = ([0; REASONS.len()], Some(now));
        line
    }
}

fn place(reason: Reason) -> usize {
    match reason {
        Reason::UnknownTopic => 0,
        Reason::Undecodable => 1,
        Reason::TooLarge => 2,
        Reason::ForeignChild => 3,
        Reason::Refused => 4,
    }
}

fn cut(id: &str) -> &str {
    &id[..id.floor_char_boundary(ID_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(rejections: &Rejections, now: Instant) -> Vec<(Option<String>, Reason, u64)> {
        let lines = rejections.state().take_lines(now);
        let mut lines: Vec<_> =
            lines.into_iter().map(|line| (line.product.map(String::from), line.reason, line.count)).collect();
        lines.sort_by(|one, other| one.0.cmp(&other.0));
        lines
    }

    #[test]
    fn a_product_is_told_of_at_once_and_then_once_a_minute_with_what_came_since() {
        let (rejections, begin) = (Rejections::new(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let product = |name: &str, reason, count| (Some(name.to_owned()), reason, count);
        for (topic, reason) in [
            ("/product1/device1/event/e", Reason::Undecodable),
            ("product1/device2/nothing", Reason::UnknownTopic),
            ("/product1/device3/tags", Reason::Undecodable),
            ("/product2/device4/tags", Reason::TooLarge),
        ] {
            rejections.note(topic, "device", reason);
        }
        let expected = [product("product1", Reason::Undecodable, 3), product("product2", Reason::TooLarge, 1)];
        assert_eq!(take(&rejections, at(1)), expected);
        (0..500).for_each(|_| rejections.note("/product1/device1/tags", "device1", Reason::UnknownTopic));
        assert_eq!(take(&rejections, at(30)), []);
        assert_eq!(take(&rejections, at(61)), [product("product1", Reason::UnknownTopic, 500)]);
        assert_eq!(take(&rejections, at(200)), []);
        assert!(rejections.state().products.is_empty(), "they are forgotten");
    }

    #[test]
    fn of_many_products_fifty_are_told_of_a_few_at_a_time_and_the_others_together() {
        let (rejections, begin) = (Rejections::new(), Instant::now());
        (0..1_000).for_each(|number| {
            rejections.note(&format!("/product{number}/device1/tags"), &"d".repeat(200), Reason::Undecodable);
        });
        assert_eq!(rejections.state().others.device.len(), ID_BYTES_MAX);
        let mut told = Vec::new();
        for second in 1..60 {
            let lines = take(&rejections, begin + Duration::from_secs(second));
            assert!(lines.len() <= LINES_AT_ONCE);
            told.extend(lines);
        }
        assert_eq!(told.len(), PRODUCTS_MAX + 1);
        let others: Vec<_> = told.iter().filter(|(product, ..)| product.is_none()).map(|line| line.2).collect();
        assert_eq!(others, [950]);
    }
}
