//! The way between sessions and the socket, in memory.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::rc::Rc;

use super::protection::EPOCH;
use super::record::Record;

/// One datagram in, any number out. Shared by all sessions of a port, one of which is driven at a time: an idle session
/// holds no buffer here. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct DatagramBuffer(Rc<RefCell<Queues>>);

#[derive(Debug, Default)]
struct Queues {
    input: Vec<u8>,
    is_filled: bool,
    /// Where the next record of the input begins, for who takes it record by record.
    next: usize,
    output: Vec<u8>,
    ends: Vec<usize>,
}

impl DatagramBuffer {
    /// Puts a datagram in; one that nobody has read is dropped.
    pub fn fill(&self, datagram: &[u8]) {
        let queues = &mut *self.0.borrow_mut();
        queues.input.clear();
        queues.input.extend_from_slice(datagram);
        queues.is_filled = true;
        queues.next = 0;
    }

    /// Lets `take` see the next record of the datagram that was put in; `None` when there is none any more.
    pub(super) fn take_record<T>(&self, take: impl FnOnce(&Record<'_>) -> T) -> Option<T> {
        let queues = &mut *self.0.borrow_mut();
        let input = queues.input.get(queues.next..).filter(|_| queues.is_filled)?;
        let Some((record, rest)) = Record::read(input) else {
            queues.is_filled = false;
            return None;
        };
        queues.next = queues.input.len() - rest.len();
        Some(take(&record))
    }

    /// Puts the datagram of [`DatagramBuffer::take_record`] in again, whole.
    pub(super) fn rewind(&self) {
        let queues = &mut *self.0.borrow_mut();
        (queues.is_filled, queues.next) = (true, 0);
    }

    /// Number behind the highest of the protected records that wait to be taken out; 0 without any.
    pub(super) fn records_end(&self) -> u64 {
        let queues = self.0.borrow();
        let (mut rest, mut end) = (&queues.output[..], 0);
        // Datagrams hold whole records, so they need not be told apart.
        while let Some((record, behind)) = Record::read(rest) {
            if record.epoch == EPOCH {
                end = end.max(record.sequence + 1);
            }
            rest = behind;
        }
        end
    }

    /// Takes the datagrams out that were written.
    pub fn drain(&self, mut take: impl FnMut(&[u8])) {
        let queues = &mut *self.0.borrow_mut();
        queues.is_filled = false;
        let mut start = 0;
        for end in queues.ends.drain(..) {
            take(&queues.output[start..end]);
            start = end;
        }
        queues.output.clear();
    }
}

impl Read for DatagramBuffer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let queues = &mut *self.0.borrow_mut();
        if !std::mem::take(&mut queues.is_filled) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // As with a socket: what does not fit is cut off.
        let bytes = queues.input.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&queues.input[..bytes]);
        Ok(bytes)
    }
}

impl Write for DatagramBuffer {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        let queues = &mut *self.0.borrow_mut();
        queues.output.extend_from_slice(datagram);
        queues.ends.push(queues.output.len());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
