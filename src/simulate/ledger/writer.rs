//! Writing a ledger.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{FORMAT, MAGIC};

/// Appends to a ledger: collects neighbouring numbers of a device and writes them as one range.
///
/// The cost of a message is an addition; a line is written per device and [`LedgerWriter::flush`], or when a range
/// breaks. Nothing is in the file for certain before `flush`.
#[derive(Debug)]
pub struct LedgerWriter<W: Write = BufWriter<File>> {
    out: W,
    pages: Vec<Page>,
    touched: Vec<u32>,
    error: Option<io::Error>,
}

/// Ranges of one device that are not written yet; an empty range has `last` below `first`.
#[derive(Debug, Clone, Copy)]
struct Page {
    sent: Range,
    resent: Range,
    acknowledged: Range,
    touched: bool,
}

#[derive(Debug, Clone, Copy)]
struct Range {
    first: u64,
    last: u64,
}

const EMPTY: Range = Range { first: 1, last: 0 };

impl LedgerWriter {
    /// Creates the file, which must not be there yet: a ledger is evidence, and is never overwritten.
    ///
    /// # Errors
    /// The file exists, or cannot be created or written.
    pub fn create<'a>(
        path: &Path,
        run: &str,
        devices: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> io::Result<LedgerWriter<BufWriter<File>>> {
        LedgerWriter::new(BufWriter::with_capacity(1 << 16, File::create_new(path)?), run, devices)
    }
}

impl<W: Write> LedgerWriter<W> {
    /// Starts a ledger of these devices (product, device), numbered from 0 in this order.
    ///
    /// # Errors
    /// The first lines cannot be written.
    pub fn new<'a>(mut out: W, run: &str, devices: impl Iterator<Item = (&'a str, &'a str)>) -> io::Result<Self> {
        writeln!(out, "{MAGIC}\t{FORMAT}\t{run}")?;
        let mut pages = Vec::new();
        for (product, device) in devices {
            writeln!(out, "device\t{}\t{product}\t{device}", pages.len())?;
            pages.push(Page { sent: EMPTY, resent: EMPTY, acknowledged: EMPTY, touched: false });
        }
        out.flush()?;
        Ok(Self { out, pages, touched: Vec::new(), error: None })
    }

    /// Notes that message `n` of the device was handed to the socket for the first time.
    pub fn sent(&mut self, device: u32, n: u64) {
        let page = self.touch(device);
        if page.sent.extend(n) {
            return;
        }
        let range = std::mem::replace(&mut page.sent, Range { first: n, last: n });
        self.line("sent", device, range);
    }

    /// Notes that the acknowledgement of message `n` was read.
    pub fn acknowledged(&mut self, device: u32, n: u64) {
        let page = self.touch(device);
        if page.acknowledged.extend(n) {
            return;
        }
        let sent = std::mem::replace(&mut page.sent, EMPTY);
        let range = std::mem::replace(&mut page.acknowledged, Range { first: n, last: n });
        self.line("sent", device, sent);
        self.line("acknowledged", device, range);
    }

    /// Notes that message `n` was sent once more, on another connection.
    pub fn resent(&mut self, device: u32, n: u64) {
        let page = self.touch(device);
        if page.resent.extend(n) {
            return;
        }
        let range = std::mem::replace(&mut page.resent, Range { first: n, last: n });
        self.line("resent", device, range);
    }

    /// Brings everything noted so far into the file.
    ///
    /// # Errors
    /// The first error of this or an earlier write; the ledger is then incomplete.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut touched = std::mem::take(&mut self.touched);
        for device in touched.drain(..) {
            self.turn(device);
            self.pages[device as usize].touched = false;
        }
        self.touched = touched;
        match self.error.take() {
            Some(error) => Err(error),
            None => self.out.flush(),
        }
    }

    /// Writes the last line; the ledger is then complete.
    ///
    /// # Errors
    /// As [`LedgerWriter::flush`].
    pub fn end(&mut self) -> io::Result<()> {
        self.flush()?;
        writeln!(self.out, "end")?;
        self.out.flush()
    }

    fn touch(&mut self, device: u32) -> &mut Page {
        let page = &mut self.pages[device as usize];
        if !page.touched {
            page.touched = true;
            self.touched.push(device);
        }
        page
    }

    fn turn(&mut self, device: u32) {
        let page = &mut self.pages[device as usize];
        let Page { sent, resent, acknowledged, .. } = *page;
        *page = Page { sent: EMPTY, resent: EMPTY, acknowledged: EMPTY, ..*page };
        self.line("sent", device, sent);
        self.line("resent", device, resent);
        self.line("acknowledged", device, acknowledged);
    }

    fn line(&mut self, word: &str, device: u32, range: Range) {
        if range.last < range.first {
            return;
        }
        if let Err(error) = writeln!(self.out, "{word}\t{device}\t{}\t{}", range.first, range.last) {
            self.error.get_or_insert(error);
        }
    }
}

impl Range {
    /// Takes `n` in if it follows the last number, or if the range is empty.
    fn extend(&mut self, n: u64) -> bool {
        if self.last < self.first {
            *self = Range { first: n, last: n };
            return true;
        }
        let follows = n == self.last + 1;
        self.last += u64::from(follows);
        follows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(write: impl Fn(&mut LedgerWriter<&mut Vec<u8>>)) -> Vec<String> {
        let mut bytes = Vec::new();
        let devices = [("product1", "device1"), ("product1", "device2")];
        let mut ledger = LedgerWriter::new(&mut bytes, "RUN", devices.into_iter()).expect("a vector takes all");
        write(&mut ledger);
        ledger.end().expect("a vector takes all");
        String::from_utf8(bytes).expect("a ledger is text").lines().skip(3).map(|l| l.replace('\t', " ")).collect()
    }

    #[test]
    fn neighbours_become_one_line_for_each_device_and_flush() {
        let lines = lines(|ledger| {
            for n in 1..=3 {
                ledger.sent(0, n);
                ledger.sent(1, n);
                ledger.acknowledged(0, n);
            }
            ledger.flush().expect("a vector takes all");
            ledger.acknowledged(1, 1);
        });
        assert_eq!(lines, ["sent 0 1 3", "acknowledged 0 1 3", "sent 1 1 3", "acknowledged 1 1 1", "end"]);
    }

    #[test]
    fn a_gap_breaks_a_range_and_sent_stands_before_acknowledged() {
        let lines = lines(|ledger| {
            for n in 1..=4 {
                ledger.sent(0, n);
            }
            ledger.acknowledged(0, 1);
            ledger.acknowledged(0, 3);
            ledger.acknowledged(0, 2);
            ledger.resent(0, 4);
        });
        let expected =
            ["sent 0 1 4", "acknowledged 0 1 1", "acknowledged 0 3 3", "resent 0 4 4", "acknowledged 0 2 2", "end"];
        assert_eq!(lines, expected);
    }
}
