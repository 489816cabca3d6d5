//! Comparison of what is stored with what is acknowledged.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use super::consumer::Taken;
use super::record::{StoredCopy, StoredRecord};
use super::report::{Disorder, Loss, Report};
use crate::simulate::ledger::{DeviceLedger, Ledger};

/// Rule that says which copy of a message is its place in the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The last that a consumer takes which drops copies as docs/wire.md says.
    ById {
        /// Ids that it remembers of each device in each session.
        window: usize,
    },
    /// The last one, which is more than the bridge promises.
    LastCopies,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::ById { window } => write!(f, "copies dropped by id, {window} ids remembered"),
            Rule::LastCopies => f.write_str("last copies"),
        }
    }
}

/// Comparison of a run with its ledger: takes every record of the queue in the order in which a reader gets them, then gives its report.
///
/// Order is that of docs/wire.md: a consumer that drops copies by [`Rule`] takes the acknowledged messages of a connection
/// in the order sent. The last copy that it takes of a message is the place of that message. A device sends what a lost
/// connection left unacknowledged again on the next one, so of each message the copies of the latest connection that
/// stored it are judged. A copy of an earlier connection that arrives after that breaks no promise, as it was not
/// acknowledged there; it is counted as late.
///
/// Memory: 16 bytes for each message sent, 24 for each copy stored, and a window of ids, some 50 bytes each, for each
/// connection.
#[derive(Debug)]
pub struct Comparison {
    ledger: Ledger,
    index: HashMap<String, u32>,
    rule: Rule,
    /// Ids that the consumer remembers, by device and connection.
    taken: HashMap<(u32, u32), Taken>,
    places: Vec<Vec<Place>>,
    ids: Vec<IdSeen>,
    hasher: RandomState,
    position: u64,
    late: u64,
    unexpected: u64,
    others: u64,
    unreadable: u64,
}

/// Position at which a message is stored.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Position of the copy that counts, from 1.
    position: u64,
    /// The connection on which that copy was sent.
    connection: u32,
    /// Copies of all connections.
    copies: u32,
}

/// That an envelope id stands for a message; the id as a hash, for which 64 bits are plenty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct IdSeen {
    hash: u64,
    device: u32,
    n: u64,
}

impl Comparison {
    /// A comparison with the run that this ledger is about, by that rule.
    pub fn new(ledger: Ledger, rule: Rule) -> Self {
        let index = (0..).zip(&ledger.devices).map(|(index, device)| (device.device.clone(), index)).collect();
        let places = vec![Vec::new(); ledger.devices.len()];
        Self {
            ledger,
            index,
            rule,
            taken: HashMap::new(),
            places,
            ids: Vec::new(),
            hasher: RandomState::new(),
            position: 0,
            late: 0,
            unexpected: 0,
            others: 0,
            unreadable: 0,
        }
    }

    /// Takes the next record.
    pub fn take(&mut self, record: &StoredRecord<'_>) {
        self.position += 1;
        match record {
            StoredRecord::Copy(copy) if *copy.run == *self.ledger.run => self.take_copy(copy),
            StoredRecord::Copy(_) | StoredRecord::Other => self.others += 1,
            StoredRecord::Unreadable => self.unreadable += 1,
        }
    }

    fn take_copy(&mut self, copy: &StoredCopy<'_>) {
        let Some(&device) = self.index.get(&*copy.device) else {
            self.unexpected += 1;
            return;
        };
        let sent_last = self.ledger.devices[device as usize].sent_last;
        let place = usize::try_from(copy.n).ok().filter(|_| (1..=sent_last).contains(&copy.n));
        let Some(place) = place else {
            self.unexpected += 1;
            return;
        };
        let places = &mut self.places[device as usize];
        if places.len() < place {
            places.resize(place, Place::default());
        }
        let place = &mut places[place - 1];
        place.copies = place.copies.saturating_add(1);
        let is_taken = match self.rule {
            Rule::ById { window } => self.taken.entry((device, copy.connection)).or_default().take(&copy.id, window),
            Rule::LastCopies => true,
        };
        if copy.connection < place.connection {
            self.late += 1;
        } else if is_taken {
            place.connection = copy.connection;
            place.position = self.position;
        }
        self.ids.push(IdSeen { hash: self.hasher.hash_one(&*copy.id), device, n: copy.n });
    }

    /// Gives the report on all that was taken.
    pub fn report(mut self) -> Report {
        let mut report = Report {
            run: std::mem::take(&mut self.ledger.run),
            rule: self.rule.to_string(),
            ledger_ended: self.ledger.ended,
            devices: self.ledger.devices.len() as u64,
            late: self.late,
            unexpected: self.unexpected,
            others: self.others,
            unreadable: self.unreadable,
            ..Report::default()
        };
        for (device, places) in self.ledger.devices.iter().zip(&self.places) {
            report.sent += device.sent_last;
            report.resent += device.resent;
            report.acknowledged += device.acknowledged_count();
            for place in places.iter().filter(|place| place.copies > 0) {
                report.stored += 1;
                report.duplicates_by_n += u64::from(place.copies) - 1;
            }
            compare_device(device, places, &mut report);
        }
        self.ids.sort_unstable();
        for pair in self.ids.windows(2).filter(|pair| pair[0].hash == pair[1].hash) {
            if pair[0] == pair[1] {
                report.duplicates_by_id += 1;
            } else {
                report.id_clashes += 1;
            }
        }
        report
    }
}

fn compare_device(device: &DeviceLedger, places: &[Place], report: &mut Report) {
    let mut latest = (0, 0);
    for n in device.acknowledged.iter().flat_map(|&(first, last)| first..=last) {
        let place = usize::try_from(n - 1).ok().and_then(|index| places.get(index)).filter(|place| place.copies > 0);
        match place {
            None => report.add_loss(|| Loss { device: device.device.clone(), n }),
            Some(place) if place.position < latest.0 => {
                report.add_disorder(|| Disorder { device: device.device.clone(), n, ahead_of: latest.1 });
            }
            Some(place) => latest = (place.position, n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger of device1 with messages 1 to 5 sent and the first `acknowledged` of them acknowledged.
    fn comparison(acknowledged: u64) -> Comparison {
        comparison_by(Rule::ById { window: 4 }, acknowledged)
    }

    fn comparison_by(rule: Rule, acknowledged: u64) -> Comparison {
        let text = format!(
            "jetlinks-bridge-ledger\t1\tR\ndevice\t0\tproduct1\tdevice1\nsent\t0\t1\t5\nacknowledged\t0\t1\t{acknowledged}\nend\n"
        );
        Comparison::new(Ledger::read(text.as_bytes()).expect("a whole ledger"), rule)
    }

    fn copy(n: u64, connection: u32, id: &'static str) -> StoredRecord<'static> {
        StoredRecord::Copy(StoredCopy { id: id.into(), device: "device1".into(), run: "R".into(), n, connection })
    }

    /// The report on copies (n, connection), each under an id of its own.
    fn report(acknowledged: u64, stored: &[(u64, u32)]) -> Report {
        const IDS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let mut comparison = comparison(acknowledged);
        for (&(n, connection), id) in stored.iter().zip(IDS) {
            comparison.take(&copy(n, connection, id));
        }
        comparison.report()
    }

    #[test]
    fn what_is_stored_once_and_in_order_is_well() {
        let report = report(5, &[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]);
        assert!(report.is_well());
        assert_eq!((report.acknowledged, report.stored, report.duplicates_by_n, report.late), (5, 5, 0, 0));
    }

    #[test]
    fn an_acknowledged_message_that_is_not_stored_is_lost() {
        let report = report(5, &[(1, 1), (2, 1), (4, 1), (5, 1)]);
        assert!(!report.is_well());
        assert_eq!(report.lost, 1);
        assert_eq!(report.lost_first, [Loss { device: "device1".to_owned(), n: 3 }]);
        assert_eq!(report.out_of_order, 0);
    }

    #[test]
    fn an_unacknowledged_message_may_be_missing() {
        assert!(report(3, &[(1, 1), (2, 1), (3, 1)]).is_well());
    }

    #[test]
    fn two_messages_that_changed_places_are_out_of_order() {
        let report = report(5, &[(1, 1), (3, 1), (2, 1), (4, 1), (5, 1)]);
        assert!(!report.is_well());
        assert_eq!(report.out_of_order, 1);
        assert_eq!(report.out_of_order_first, [Disorder { device: "device1".to_owned(), n: 3, ahead_of: 2 }]);
    }

    /// The messages out of order, by both rules, among copies of one connection that have the same id where they are of
    /// the same message.
    fn disorder(stored: &[u64]) -> [u64; 2] {
        const IDS: [&str; 5] = ["a", "b", "c", "d", "e"];
        [Rule::ById { window: 4 }, Rule::LastCopies].map(|rule| {
            let mut comparison = comparison_by(rule, 5);
            for n in stored {
                comparison.take(&copy(*n, 1, IDS[usize::try_from(n - 1).expect("small")]));
            }
            let report = comparison.report();
            assert_eq!((report.lost, report.rule), (0, rule.to_string()));
            report.out_of_order
        })
    }

    #[test]
    fn a_window_sent_again_behind_what_failed_is_in_order() {
        assert_eq!(disorder(&[1, 3, 4, 2, 3, 4, 5]), [0, 0]);
    }

    #[test]
    fn copies_that_come_behind_later_messages_break_the_order_of_last_copies_alone() {
        assert_eq!(disorder(&[1, 2, 3, 4, 5, 2, 3]), [0, 2]);
        assert_eq!(disorder(&[1, 2, 3, 2, 4, 5]), [0, 1]);
        // Copies of a server that hung come into a window that is sent again.
        assert_eq!(disorder(&[3, 1, 2, 3, 4, 5, 1, 2]), [0, 3]);
    }

    #[test]
    fn a_message_stored_behind_later_ones_that_do_not_come_again_is_out_of_order_by_every_rule() {
        assert_eq!(disorder(&[1, 3, 2, 4, 5]), [1, 1]);
        assert_eq!(disorder(&[1, 3, 4, 2, 3, 5]), [1, 1], "4 does not come again");
        assert_eq!(disorder(&[2, 3, 4, 5, 1]), [4, 4]);
    }

    #[test]
    fn a_copy_under_another_id_is_not_dropped() {
        let report = report(5, &[(1, 1), (2, 1), (3, 1), (2, 1), (4, 1), (5, 1)]);
        assert_eq!(report.out_of_order, 1);
        assert_eq!(report.out_of_order_first[0].n, 3);
    }

    #[test]
    fn order_holds_across_connections_too() {
        let report = report(5, &[(1, 1), (4, 2), (5, 2), (2, 1), (3, 1)]);
        assert_eq!(report.out_of_order, 2);
    }

    #[test]
    fn a_late_copy_of_a_lost_connection_is_counted_but_breaks_nothing() {
        let report = report(5, &[(1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (2, 1), (3, 1)]);
        assert!(report.is_well());
        assert_eq!((report.late, report.duplicates_by_n), (2, 2));
    }

    #[test]
    fn the_copy_of_a_lost_connection_counts_when_it_is_the_only_one() {
        assert!(report(5, &[(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]).is_well());
    }

    #[test]
    fn duplicates_are_counted_by_number_and_by_id() {
        let mut comparison = comparison(2);
        for stored in [copy(1, 1, "a"), copy(1, 1, "a"), copy(2, 1, "b"), copy(2, 1, "c")] {
            comparison.take(&stored);
        }
        let report = comparison.report();
        assert!(report.is_well());
        assert_eq!((report.duplicates_by_n, report.duplicates_by_id, report.id_clashes), (2, 1, 0));
    }

    #[test]
    fn two_messages_under_one_id_are_a_clash_because_consumers_drop_one() {
        let mut comparison = comparison(2);
        comparison.take(&copy(1, 1, "a"));
        comparison.take(&copy(2, 1, "a"));
        let report = comparison.report();
        assert!(!report.is_well());
        assert_eq!((report.lost, report.id_clashes), (0, 1));
    }

    #[test]
    fn what_no_device_of_the_ledger_sent_is_unexpected() {
        let mut comparison = comparison(1);
        let foreign = StoredCopy { id: "b".into(), device: "device9".into(), run: "R".into(), n: 1, connection: 1 };
        for stored in
            [copy(1, 1, "a"), copy(6, 1, "c"), copy(0, 1, "d"), copy(u64::MAX, 1, "e"), StoredRecord::Copy(foreign)]
        {
            comparison.take(&stored);
        }
        let report = comparison.report();
        assert_eq!((report.stored, report.unexpected), (1, 4));
    }

    #[test]
    fn other_runs_and_other_envelopes_are_left_aside() {
        let mut comparison = comparison(1);
        let other = StoredCopy { id: "b".into(), device: "device1".into(), run: "S".into(), n: 1, connection: 1 };
        for stored in [StoredRecord::Copy(other), StoredRecord::Other, StoredRecord::Unreadable] {
            comparison.take(&stored);
        }
        let report = comparison.report();
        assert_eq!((report.stored, report.lost, report.others, report.unreadable), (0, 1, 2, 1));
    }
}
