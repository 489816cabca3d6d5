//! Reading a ledger.

use std::io::{self, BufRead};

use super::{FORMAT, MAGIC};

/// A ledger that was read: the run, its devices, and what of each is acknowledged.
#[derive(Debug, PartialEq, Eq)]
pub struct Ledger {
    /// The run's id: messages carry it as property `run`.
    pub run: String,
    /// The devices, by their number.
    pub devices: Vec<DeviceLedger>,
    /// Whether the simulation ended in good order; if not, more may have been sent and acknowledged than is written.
    pub ended: bool,
}

/// One device of a ledger.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DeviceLedger {
    /// Its product.
    pub product: String,
    /// Its id.
    pub device: String,
    /// Highest number sent; 0: none.
    pub sent_last: u64,
    /// Numbers acknowledged: inclusive ranges, ascending, apart from each other.
    pub acknowledged: Vec<(u64, u64)>,
    /// Messages that were sent again on a later connection, counted once for each time.
    pub resent: u64,
}

impl DeviceLedger {
    /// How many messages are acknowledged.
    pub fn acknowledged_count(&self) -> u64 {
        self.acknowledged.iter().map(|(first, last)| last - first + 1).sum()
    }
}

/// Reason for which a ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be read.
    #[error("the ledger cannot be read")]
    Read(#[source] io::Error),
    /// A ledger has no such line at this place; its number, from 1.
    #[error("line {0}: {1}")]
    Line(u64, LineFault),
}

/// Mistake in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// The first line does not name this format.
    #[error("not a ledger of this version")]
    Header,
    /// Another word, or another number of words.
    #[error("unknown words")]
    Words,
    /// Not a number from 1 on, or a range that runs backwards.
    #[error("not a range of message numbers")]
    Range,
    /// A device that no line introduced, or one introduced out of order.
    #[error("unknown device number")]
    Device,
    /// A line after the last one.
    #[error("text after the end")]
    AfterEnd,
}

impl Ledger {
    /// Reads a ledger. A last line without its line end (the simulation was killed while writing) is left out.
    ///
    /// # Errors
    /// [`LedgerError`] names the line.
    pub fn read(mut input: impl BufRead) -> Result<Self, LedgerError> {
        let mut line = String::new();
        let mut number = 0;
        let mut ledger: Option<Self> = None;
        loop {
            line.clear();
            if input.read_line(&mut line).map_err(LedgerError::Read)? == 0 {
                break;
            }
            number += 1;
            let Some(text) = line.strip_suffix('\n') else { break };
            let fault = match &mut ledger {
                None => match header(text) {
                    Some(run) => {
                        ledger = Some(Self { run: run.to_owned(), devices: Vec::new(), ended: false });
                        continue;
                    }
                    None => LineFault::Header,
                },
                Some(ledger) => match ledger.take(text) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                },
            };
            return Err(LedgerError::Line(number, fault));
        }
        let mut ledger = ledger.ok_or(LedgerError::Line(1, LineFault::Header))?;
        for device in &mut ledger.devices {
            merge(&mut device.acknowledged);
        }
        Ok(ledger)
    }

    fn take(&mut self, text: &str) -> Result<(), LineFault> {
        if self.ended {
            return Err(LineFault::AfterEnd);
        }
        if text == "end" {
            self.ended = true;
            return Ok(());
        }
        let mut words = text.split('\t');
        let mut word = || words.next().ok_or(LineFault::Words);
        let (verb, index) = (word()?, word()?.parse::<usize>().map_err(|_| LineFault::Device)?);
        let (third, fourth) = (word()?, word()?);
        if words.next().is_some() {
            return Err(LineFault::Words);
        }
        if verb == "device" {
            if index != self.devices.len() {
                return Err(LineFault::Device);
            }
            let device =
                DeviceLedger { product: third.to_owned(), device: fourth.to_owned(), ..DeviceLedger::default() };
            self.devices.push(device);
            return Ok(());
        }
        let device = self.devices.get_mut(index).ok_or(LineFault::Device)?;
        let (Ok(first), Ok(last)) = (third.parse::<u64>(), fourth.parse::<u64>()) else { return Err(LineFault::Range) };
        if first == 0 || last < first {
            return Err(LineFault::Range);
        }
        match verb {
            "sent" => device.sent_last = device.sent_last.max(last),
            "resent" => device.resent += last - first + 1,
            "acknowledged" => match device.acknowledged.last_mut() {
                Some(range) if range.1 + 1 == first => range.1 = last,
                _ => device.acknowledged.push((first, last)),
            },
            _ => return Err(LineFault::Words),
        }
        Ok(())
    }
}

fn header(text: &str) -> Option<&str> {
    let mut words = text.split('\t');
    let (magic, format, run) = (words.next()?, words.next()?, words.next()?);
    (magic == MAGIC && format == FORMAT && !run.is_empty() && words.next().is_none()).then_some(run)
}

fn merge(ranges: &mut Vec<(u64, u64)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let touches = next.0 <= kept.1.saturating_add(1);
        if touches {
            kept.1 = kept.1.max(next.1);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<Ledger, LedgerError> {
        let text: String = lines.iter().map(|line| line.replace(' ', "\t") + "\n").collect();
        Ledger::read(text.as_bytes())
    }

    const HEADER: &str = "jetlinks-bridge-ledger 1 RUN";

    #[test]
    fn ranges_out_of_order_are_merged() {
        let ledger = read(&[
            HEADER,
            "device 0 product1 device1",
            "sent 0 1 9",
            "acknowledged 0 1 2",
            "acknowledged 0 5 5",
            "acknowledged 0 3 4",
            "acknowledged 0 8 9",
            "resent 0 6 7",
            "end",
        ])
        .expect("every line is one of a ledger");
        assert!(ledger.ended);
        assert_eq!(ledger.run, "RUN");
        let device = &ledger.devices[0];
        assert_eq!((device.product.as_str(), device.device.as_str()), ("product1", "device1"));
        assert_eq!((device.sent_last, device.resent, device.acknowledged_count()), (9, 2, 7));
        assert_eq!(device.acknowledged, [(1, 5), (8, 9)]);
    }

    #[test]
    fn a_cut_last_line_counts_as_not_written() {
        let ledger =
            Ledger::read(&b"jetlinks-bridge-ledger\t1\tR\ndevice\t0\tp\td\nsent\t0\t1\t20\nacknowledged\t0\t1\t1"[..])
                .expect("the whole lines are fine");
        assert!(!ledger.ended);
        assert_eq!(ledger.devices[0].acknowledged_count(), 0);
    }

    #[test]
    fn a_line_with_a_mistake_is_named_by_its_number() {
        for (lines, number, fault) in [
            (&[][..], 1, LineFault::Header),
            (&["jetlinks-bridge-ledger 2 RUN"], 1, LineFault::Header),
            (&[HEADER, "device 1 p d"], 2, LineFault::Device),
            (&[HEADER, "sent 0 1 1"], 2, LineFault::Device),
            (&[HEADER, "device 0 p d", "sent 0 2 1"], 3, LineFault::Range),
            (&[HEADER, "device 0 p d", "sent 0 0 1"], 3, LineFault::Range),
            (&[HEADER, "device 0 p d", "lost 0 1 1"], 3, LineFault::Words),
            (&[HEADER, "device 0 p d", "sent 0 1"], 3, LineFault::Words),
            (&[HEADER, "end", "end"], 3, LineFault::AfterEnd),
        ] {
            match read(lines) {
                Err(LedgerError::Line(at, found)) => assert_eq!((at, found), (number, fault), "{lines:?}"),
                other => panic!("{lines:?} gave {other:?}"),
            }
        }
    }
}
