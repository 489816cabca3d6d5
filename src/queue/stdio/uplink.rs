//! Envelopes to stdout.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};

use super::StdioWriter;
use super::writer::Pushed;
use crate::protocol::uplink::{DeliveryId, Handover, Inbox, Record, Uplink};

/// One worker's way to stdout. A receipt means that the line was written and flushed, so a pipe's reader or the file has
/// it as far as the system keeps what it took.
#[derive(Debug)]
pub struct StdioUplink {
    writer: StdioWriter,
    inbox: Arc<Inbox>,
    has_lines: Rc<Notify>,
    waking: JoinHandle<()>,
}

impl StdioUplink {
    /// Joins the writer; the inbox hears at once that stdout is there.
    ///
    /// # Panics
    /// Outside a `LocalSet`.
    pub fn new(writer: StdioWriter, inbox: Arc<Inbox>) -> Self {
        writer.register(&inbox);
        let has_lines = Rc::new(Notify::new());
        let waking = spawn_local(wake(writer.clone(), Rc::clone(&has_lines)));
        Self { writer, inbox, has_lines, waking }
    }
}

/// Wakes the writer when the tasks have run that were ready before its first line came: waking it costs more than a line, and it
/// takes all lines that are there.
async fn wake(writer: StdioWriter, has_lines: Rc<Notify>) {
    loop {
        has_lines.notified().await;
        writer.wake();
    }
}

impl Drop for StdioUplink {
    fn drop(&mut self) {
        self.waking.abort();
        self.writer.wake();
    }
}

impl Uplink for StdioUplink {
    fn publish(&mut self, id: DeliveryId, record: &Record) -> Handover {
        match self.writer.push(&record.payload, id, &self.inbox) {
            Pushed::Refused => return Handover::NotTaken,
            Pushed::Taken => {}
            Pushed::First => self.has_lines.notify_one(),
        }
        Handover::Taken
    }

    fn flush(&mut self) {
        // The writer takes all lines that are there, of all batches of a turn.
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{self, Write};

    use bytes::Bytes;
    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    use super::*;
    use crate::protocol::uplink::{Channel, Receipt, SlotId};

    /// Tells the bytes of each write.
    struct Writes(mpsc::UnboundedSender<usize>);

    impl Write for Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ended = self.0.send(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn records_of_one_turn_are_written_at_once_and_each_has_its_receipt() {
        // Writing them takes longer than waking a thread.
        const RECORDS: u32 = 100_000;
        let (sender, mut writes) = mpsc::unbounded_channel();
        let test = async move {
            let writer = StdioWriter::start_on(Writes(sender), Arc::default()).expect("a thread");
            while !writer.is_waiting() {
                tokio::task::yield_now().await;
            }
            let inbox = Arc::new(Inbox::new());
            let mut uplink = StdioUplink::new(writer, Arc::clone(&inbox));
            let payload = Bytes::from_static(b"{}");
            let record = Record {
                channel: Channel::Device,
                address: Bytes::new(),
                payload,
                attributes: Vec::new(),
                recorded_ms: 0,
                trace: None,
            };
            for slot in 0..RECORDS {
                let id = DeliveryId { slot: SlotId { index: slot, generation: 1 }, sequence: 1 };
                assert_eq!(uplink.publish(id, &record), Handover::Taken);
                uplink.flush();
            }
            let mut receipts = Vec::new();
            while receipts.len() < RECORDS as usize {
                let mut more = Vec::new();
                poll_fn(|cx| inbox.poll_take(cx, &mut more)).await;
                receipts.append(&mut more);
            }
            assert!(receipts.iter().all(|receipt| matches!(receipt, Receipt::Stored(_))));
        };
        LocalSet::new().run_until(test).await;
        assert_eq!(writes.recv().await, Some(RECORDS as usize * "{}\n".len()));
    }
}
