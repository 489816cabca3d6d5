//! The thread that reads stdin.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tokio::sync::mpsc;

use super::{StdioStats, add};
use crate::protocol::command::{Command, CommandError};
use crate::protocol::downlink::{DownlinkEvent, Recipient, Ticket};
use crate::protocol::id::DeviceId;

/// A longer line is no command; what is over is skipped, not kept.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A line that no worker takes: the caller prints the outcome.
#[derive(Debug, PartialEq, Eq)]
pub enum Undelivered {
    /// The device is not connected: CLIENT_OFFLINE.
    Offline(Command),
    /// The line is no command, or one that contradicts itself for a device that is not connected.
    Invalid(CommandError),
}

/// Reads commands, one a line.
#[derive(Debug)]
pub struct StdioInput;

impl StdioInput {
    /// Starts the thread on `source`, such as the process' stdin; it ends with that, which is no error, or with the process.
    ///
    /// `route` gives the events of the worker that holds a device; a full channel makes stdin wait. `undelivered` is
    /// called on the thread for every line that `route` has no place for.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start_on(
        source: impl Read + Send + 'static,
        stats: Arc<StdioStats>,
        route: impl Fn(&DeviceId) -> Option<mpsc::Sender<DownlinkEvent>> + Send + 'static,
        undelivered: impl Fn(Undelivered) + Send + 'static,
    ) -> io::Result<()> {
        let reading = move || read(source, &stats, route, undelivered);
        thread::Builder::new().name("stdin".to_owned()).spawn(reading).map(drop)
    }
}

fn read(
    source: impl Read,
    stats: &StdioStats,
    route: impl Fn(&DeviceId) -> Option<mpsc::Sender<DownlinkEvent>>,
    undelivered: impl Fn(Undelivered),
) {
    let tickets = AtomicU64::new(0);
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        match next_line(&mut source, &mut line) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "stdin cannot be read");
                return;
            }
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        add(&stats.commands, 1);
        let command = if line.len() > LINE_BYTES_MAX {
            Err(CommandError::unreadable(format!("a command has at most {LINE_BYTES_MAX} bytes")))
        } else {
            Command::from_json(line.trim_ascii())
        };
        deliver(command, &tickets, &route, &undelivered);
    }
}

/// Reads up to the next line feed; false at the end. A line that is too long comes back cut, longer than the limit.
fn next_line(source: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let chunk = match source.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            return Ok(!line.is_empty());
        }
        let end = memchr::memchr(b'\n', chunk);
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = (LINE_BYTES_MAX + 1).saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        source.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

fn deliver(
    command: Result<Command, CommandError>,
    tickets: &AtomicU64,
    route: &impl Fn(&DeviceId) -> Option<mpsc::Sender<DownlinkEvent>>,
    undelivered: &impl Fn(Undelivered),
) {
    let device = match &command {
        Ok(command) => command.device.as_str(),
        Err(CommandError::Parameter(identity, _) | CommandError::Unsupported(identity, _)) => identity.device.as_str(),
        Err(CommandError::Unreadable(..)) => "",
    };
    let holder = DeviceId::new(device).ok().and_then(|device| Some((route(&device)?, device)));
    let command = match holder {
        Some((events, device)) => {
            let ticket = Some(Ticket(tickets.fetch_add(1, Ordering::Relaxed)));
            let event = DownlinkEvent::Command { to: Recipient::Device(device), ticket, command };
            match events.blocking_send(event) {
                Ok(()) => return,
                // The worker has ended since; its devices are gone with it.
                Err(mpsc::error::SendError(DownlinkEvent::Command { command, .. })) => command,
                Err(_) => return,
            }
        }
        None => command,
    };
    undelivered(match command {
        Ok(command) => Undelivered::Offline(command),
        Err(error) => Undelivered::Invalid(error),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<usize> {
        let mut source = BufReader::with_capacity(16, text);
        let mut line = Vec::new();
        let mut lengths = Vec::new();
        while next_line(&mut source, &mut line).expect("memory can be read") {
            lengths.push(line.len());
        }
        lengths
    }

    #[test]
    fn lines_end_at_line_feeds_and_at_the_end_and_never_grow_beyond_the_limit() {
        assert!(lines(b"").is_empty());
        assert_eq!(lines(b"ab\n\nc"), [2, 0, 1]);
        let mut long = vec![b'x'; 3 * LINE_BYTES_MAX];
        long.extend_from_slice(b"\nab\n");
        assert_eq!(lines(&long), [LINE_BYTES_MAX + 1, 2]);
    }

    #[test]
    fn a_command_goes_to_the_worker_of_its_device_and_every_other_line_is_told_to_the_caller() {
        let line = |device: &str| {
            let command = r#""messageType":"READ_PROPERTY","productId":"product1","properties":["sn"]"#;
            format!(r#"{{{command},"deviceId":"{device}"}}"#)
        };
        let text = format!("{}\n\n  {}\r\nno command\n", line("device1"), line("device2"));
        let (sender, mut events) = mpsc::channel(1);
        let told = std::cell::RefCell::new(Vec::new());
        let stats = StdioStats::default();
        let route = |device: &DeviceId| (device.as_str() == "device1").then(|| sender.clone());
        read(text.as_bytes(), &stats, route, |undelivered| told.borrow_mut().push(undelivered));
        let Ok(DownlinkEvent::Command { to, ticket: Some(_), command: Ok(command) }) = events.try_recv() else {
            panic!("the connected device gets nothing")
        };
        assert_eq!(to, Recipient::Device(DeviceId::new("device1").expect("an id")));
        assert_eq!(command.device, "device1");
        let told = told.into_inner();
        assert!(matches!(&told[0], Undelivered::Offline(command) if command.device == "device2"), "{told:?}");
        assert!(matches!(&told[1], Undelivered::Invalid(_)), "{told:?}");
        assert_eq!((told.len(), stats.commands.load(Ordering::Relaxed)), (2, 3));
    }
}
