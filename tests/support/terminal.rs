//! A terminal of its own for a program, and what a person sees on it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{Process, eventually};

/// How long anything may take that takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows and columns; the rows hold all that a test prints.
const SIZE: (u16, u16) = (60, 120);

/// A program on a terminal.
pub(crate) struct Terminal {
    /// The program; killed with this.
    pub(crate) process: Process,
    keys: File,
    screen: Arc<Mutex<Screen>>,
}

struct Screen {
    parser: vt100::Parser,
    written: Vec<u8>,
}

impl Terminal {
    /// Starts a program whose three streams are a terminal that belongs to it.
    pub(crate) fn start(mut command: Command) -> Self {
        let (near, far) = open();
        let stream = || far.try_clone().expect("there are descriptors left");
        command.stdin(stream()).stdout(stream()).stderr(stream()).env("TERM", "xterm-256color");
        let own = || {
            // SAFETY: between fork and exec both may be called (signal-safety(7)); nothing is allocated.
            let done = unsafe { libc::setsid() != -1 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 };
            if done { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: as above.
        unsafe { command.pre_exec(own) };
        let process = Process::spawn(&mut command, None);
        let screen = Screen { parser: vt100::Parser::new(SIZE.0, SIZE.1, 0), written: Vec::new() };
        let screen = Arc::new(Mutex::new(screen));
        let (shown, mut reader) = (screen.clone(), near.try_clone().expect("there are descriptors left"));
        // It ends when the last end of the program is closed.
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let mut screen = shown.lock().expect("no reader panics");
                screen.parser.process(&bytes[..count]);
                screen.written.extend_from_slice(&bytes[..count]);
            }
        });
        Self { process, keys: near, screen }
    }

    /// Presses keys; `\r` is Enter, `\x03` ctrl-C, `\x04` ctrl-D.
    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits for a row that `is_meant`, and returns it.
    pub(crate) fn row(&self, what: &str, is_meant: impl Fn(&str) -> bool) -> String {
        eventually(&format!("{what} on the screen"), PATIENCE, || self.rows().into_iter().find(|row| is_meant(row)))
    }

    /// The rows that a person sees, without those that are empty.
    pub(crate) fn rows(&self) -> Vec<String> {
        let screen = self.screen.lock().expect("no reader panics");
        let rows = screen.parser.screen().rows(0, SIZE.1);
        rows.map(|row| row.trim_end().to_owned()).filter(|row| !row.is_empty()).collect()
    }

    /// All that was written, the sequences that the terminal obeys included.
    pub(crate) fn written(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("no reader panics").written).into_owned()
    }

    /// Whether what is typed is echoed by the terminal itself and comes line by line, as before a program that reads keys.
    pub(crate) fn is_cooked(&self) -> bool {
        let mut settings = std::mem::MaybeUninit::<libc::termios>::uninit();
        // SAFETY: tcgetattr writes one `termios`, which outlives the call; both ends of a terminal have the same.
        let flags = unsafe {
            let done = libc::tcgetattr(std::os::fd::AsRawFd::as_raw_fd(&self.keys), settings.as_mut_ptr());
            assert_eq!(done, 0, "{}", io::Error::last_os_error());
            settings.assume_init().c_lflag
        };
        flags & (libc::ECHO | libc::ICANON) == libc::ECHO | libc::ICANON
    }

    /// Waits until the terminal is as it was before a program that reads keys.
    pub(crate) fn assert_left(&self) {
        let is_left = || {
            let written = self.written();
            // Bracketed paste is on while a line is read.
            (self.is_cooked() && written.rfind("\u{1b}[?2004l") > written.rfind("\u{1b}[?2004h")).then_some(())
        };
        eventually("the terminal is as it was", PATIENCE, is_left);
    }

    /// Waits for the end of the program; its exit code.
    pub(crate) fn exit_code(&mut self) -> i32 {
        self.process.exit_code(PATIENCE)
    }
}

/// The end of the person, and that of the program.
fn open() -> (File, OwnedFd) {
    let (mut near, mut far) = (-1, -1);
    let size = libc::winsize { ws_row: SIZE.0, ws_col: SIZE.1, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: openpty writes two integers and reads one size, all of which outlive the call.
    let done = unsafe { libc::openpty(&raw mut near, &raw mut far, ptr::null_mut(), ptr::null(), &raw const size) };
    assert_eq!(done, 0, "a terminal: {}", io::Error::last_os_error());
    // SAFETY: both were just opened, and nobody else knows them.
    unsafe {
        assert_eq!(libc::fcntl(near, libc::F_SETFD, libc::FD_CLOEXEC), 0);
        (File::from_raw_fd(near), OwnedFd::from_raw_fd(far))
    }
}
