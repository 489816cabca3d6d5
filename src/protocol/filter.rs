//! Subscriptions of a session: which QoS a command goes out with.

use crate::codec::mqtt::Qos;

/// Most filters that one session may hold; further ones are refused with 0x80.
pub const FILTERS_MAX: usize = 64;

/// Most bytes that the filters of one session may have together; further ones are refused with 0x80.
pub const FILTERS_BYTES_MAX: usize = 4 * 1024;

/// The granted filters of one session.
#[derive(Debug, Default)]
pub struct Subscriptions {
    filters: Vec<(Box<str>, Qos)>,
}

impl Subscriptions {
    /// Adds or replaces a filter; the granted level, at most 1, or `None` when there are too many.
    pub fn insert(&mut self, filter: &str, asked: Qos) -> Option<Qos> {
        let granted = asked.min(Qos::AtLeastOnce);
        if let Some(known) = self.filters.iter_mut().find(|(known, _)| **known == *filter) {
            known.1 = granted;
        } else if self.filters.len() == FILTERS_MAX || self.bytes() + filter.len() > FILTERS_BYTES_MAX {
            return None;
        } else {
            self.filters.push((filter.into(), granted));
        }
        Some(granted)
    }

    fn bytes(&self) -> usize {
        self.filters.iter().map(|(filter, _)| filter.len()).sum()
    }

    /// Removes a filter, if it is there.
    pub fn remove(&mut self, filter: &str) {
        self.filters.retain(|(known, _)| **known != *filter);
    }

    /// The highest level among the filters that match; QoS 0 when none does, as many JetLinks devices never subscribe.
    pub fn qos(&self, topic: &str) -> Qos {
        let matching = self.filters.iter().filter(|(filter, _)| matches(filter, topic));
        matching.map(|&(_, qos)| qos).max().unwrap_or(Qos::AtMostOnce)
    }
}

/// Whether a filter lies under `/{product}/{device}/`: its first levels are those, literally. The first `/` may not be
/// missing, as it may in topics that devices publish on: commands go out with it, so that such a filter matches none.
pub fn is_own(filter: &str, product: &str, device: &str) -> bool {
    let mut levels = filter.splitn(4, '/');
    levels.next() == Some("")
        && levels.next() == Some(product)
        && levels.next() == Some(device)
        && levels.next().is_some_and(|rest| !rest.is_empty())
}

/// Whether a topic matches a filter (MQTT 3.1.1, 4.7).
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_mqtt_says() {
        for (filter, topic, expected) in [
            ("/p/d/#", "/p/d/properties/read", true),
            ("/p/d/#", "/p/d", true),
            ("/p/d/+/read", "/p/d/properties/read", true),
            ("/p/d/+", "/p/d/properties/read", false),
            ("/p/d/properties/read", "/p/d/properties/read", true),
            ("/p/d/properties/read", "/p/d/properties/write", false),
            ("p/d/#", "/p/d/x", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn only_filters_below_the_own_two_levels_are_own() {
        for (filter, expected) in [
            ("/p/d/#", true),
            ("/p/d/+/read", true),
            ("/p/d/properties/read", true),
            ("p/d/#", false),
            ("p/d/properties/read", false),
            ("//p/d/#", false),
            ("+/p/d/#", false),
            ("/p/d", false),
            ("/p/d/", false),
            ("/p/d2/#", false),
            ("/p/+/#", false),
            ("/#", false),
            ("#", false),
        ] {
            assert_eq!(is_own(filter, "p", "d"), expected, "{filter}");
        }
    }

    #[test]
    fn the_highest_matching_level_counts_and_is_at_most_1() {
        let mut subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.qos("/p/d/properties/read"), Qos::AtMostOnce);
        assert_eq!(subscriptions.insert("/p/d/#", Qos::AtMostOnce), Some(Qos::AtMostOnce));
        assert_eq!(subscriptions.insert("/p/d/properties/+", Qos::ExactlyOnce), Some(Qos::AtLeastOnce));
        assert_eq!(subscriptions.qos("/p/d/properties/read"), Qos::AtLeastOnce);
        subscriptions.remove("/p/d/properties/+");
        assert_eq!(subscriptions.qos("/p/d/properties/read"), Qos::AtMostOnce);
        for n in 1..FILTERS_MAX {
            assert!(subscriptions.insert(&format!("/p/d/{n}"), Qos::AtMostOnce).is_some());
        }
        assert_eq!(subscriptions.insert("/p/d/more", Qos::AtMostOnce), None);
    }

    #[test]
    fn long_filters_are_refused_before_they_cost_much() {
        let mut subscriptions = Subscriptions::default();
        let long = |number: usize| format!("/p/d/{number}{}", "x".repeat(1000));
        assert!((0..4).all(|number| subscriptions.insert(&long(number), Qos::AtMostOnce).is_some()));
        assert_eq!(subscriptions.insert(&long(4), Qos::AtMostOnce), None);
        subscriptions.remove(&long(0));
        assert!(subscriptions.insert(&long(4), Qos::AtMostOnce).is_some());
    }
}
