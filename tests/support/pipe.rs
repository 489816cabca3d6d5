//! A pipe that nobody reads.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use super::eventually;

/// More than any pipe holds by itself.
const FILLING_BYTES: usize = 1 << 20;

/// A pipe for the errors of a process.
#[derive(Debug)]
pub(crate) struct Pipe {
    reader: PipeReader,
    writer: PipeWriter,
}

impl Pipe {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let (reader, writer) = std::io::pipe().expect("there are descriptors left");
        Self { reader, writer }
    }

    /// The end that is written.
    pub(crate) fn end(&self) -> Stdio {
        Stdio::from(self.writer.try_clone().expect("there are descriptors left"))
    }

    /// Fills it, and keeps it full until it is read.
    pub(crate) fn fill(&self) {
        let mut writer = self.writer.try_clone().expect("there are descriptors left");
        // What does not fit waits; it ends with the reader.
        thread::spawn(move || drop(writer.write_all(&[b'\n'; FILLING_BYTES])));
        eventually("the pipe is full", Duration::from_secs(60), || self.is_full().then_some(()));
    }

    /// Reads it to its end, once all who write have gone, and gives each line that has something in it.
    pub(crate) fn read(self, mut each: impl FnMut(String) + Send + 'static) -> thread::JoinHandle<()> {
        let Self { reader, writer } = self;
        drop(writer);
        thread::spawn(move || {
            let lines = BufReader::new(reader).lines().map_while(Result::ok);
            lines.filter(|line| !line.is_empty()).for_each(&mut each);
        })
    }

    fn is_full(&self) -> bool {
        let mut looked_at = libc::pollfd { fd: self.writer.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        // SAFETY: poll gets a pointer to one valid entry that outlives the call; its descriptor is open.
        let ready = unsafe { libc::poll(&raw mut looked_at, 1, 0) };
        ready == 0
    }
}
