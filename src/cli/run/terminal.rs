//! The terminal of a person who runs the bridge: envelopes in short above a line that is typed.
#![expect(clippy::disallowed_methods, reason = "outside the pure core, so it reads the clock itself")]

use std::collections::HashMap;
use std::io::{self, IsTerminal, Read, Write};
use std::mem::MaybeUninit;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use console::Term;
use percent_encoding::percent_decode_str;
use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter};

use super::line::{Look, Shown};
use super::typed::{self, HELP, Typed};
use crate::app::Stdio;
use crate::cli::output::{Output, one_line};
use crate::cli::send::{DeviceAddress, parse_address};
use crate::config::{CommandQueue, Config, UplinkQueue};

/// Devices whose addresses are kept, so that a command may name a device by its id. Some 200 bytes each.
const DEVICES_MAX: usize = 10_000;

/// Time that the last lines and the end of the prompt may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

const WELCOME: &str = "Type a command, such as `read device1 sn`, or `help`. Ctrl-C ends the bridge.\n";
const PROMPT: &str = "> ";
const ENDING: &str = "The bridge ends once everything is acknowledged; ctrl-C again ends it at once.\n";

/// Text that moves the cursor up a line and down again. The printer has room for one text beside the one that is shown, so
/// once two of these were taken, everything before them is on the screen.
const NOTHING: &str = "\u{1b}[A\n";

/// A terminal in use; dropped, it shows what was printed so far and is as it was before.
#[derive(Debug)]
pub(super) struct Terminal {
    screen: Arc<Screen>,
    /// Closed once nobody reads the terminal any more.
    reading: Option<Receiver<()>>,
}

impl Terminal {
    /// Looks at what stdin and stdout are: what the bridge reads and writes, and where the log goes if not to stderr.
    ///
    /// Without `output` envelopes are shown in short where stdout is a terminal. There is a prompt where stdin is one as well
    /// and the bridge reads commands from it.
    pub(super) fn open(
        output: Option<Output>,
        config: &Config,
    ) -> (Option<Self>, Stdio, Option<Box<dyn Write + Send>>) {
        let is_terminal = io::stdout().is_terminal();
        let output = output.unwrap_or(if is_terminal { Output::Text } else { Output::Json });
        let reads = config.commands.queue == CommandQueue::Stdio;
        let mut stdio = Stdio::default();
        if output == Output::Json || !reads && config.uplink.queue != UplinkQueue::Stdio {
            return (None, stdio, None);
        }
        let editor = (reads && is_terminal && io::stdin().is_terminal()).then(prompt).and_then(Result::ok);
        let (editor, printer) = editor.unzip();
        let look = Look {
            has_colours: is_terminal && console::colors_enabled(),
            width: Term::stdout().size_checked().map(|(_rows, columns)| usize::from(columns)),
        };
        let screen =
            Arc::new(Screen { printer: Mutex::new(printer), look, devices: Mutex::default(), ..Screen::default() });
        stdio.output = Box::new(Envelopes { screen: screen.clone(), rest: Vec::new() });
        let Some(editor) = editor else { return (Some(Self { screen, reading: None }), stdio, None) };
        let (alive, reading) = mpsc::channel();
        let typed =
            Typing { editor, screen: screen.clone(), prompt: "", is_ending: false, rest: Vec::new(), _alive: alive };
        stdio.input = Box::new(typed);
        let errors = io::stderr().is_terminal().then(|| Box::new(Lines(screen.clone())) as Box<dyn Write + Send>);
        (Some(Self { screen, reading: Some(reading) }), stdio, errors)
    }
}

type Printer = Box<dyn ExternalPrinter + Send>;

fn prompt() -> rustyline::Result<(DefaultEditor, Printer)> {
    let config = rustyline::Config::builder().auto_add_history(true).build();
    let mut editor = DefaultEditor::with_config(config)?;
    let printer = editor.create_external_printer()?;
    Ok((editor, Box::new(printer)))
}

/// The screen, shared by all who print.
#[derive(Default)]
struct Screen {
    /// Prints above the line that is typed. Held by whoever prints; never by the reader, which it may wait for.
    printer: Mutex<Option<Printer>>,
    look: Look,
    /// Where the devices are that were shown, by id.
    devices: Mutex<HashMap<String, DeviceAddress>>,
    is_closing: AtomicBool,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("look", &self.look).finish_non_exhaustive()
    }
}

impl Screen {
    /// Prints whole lines.
    fn print(&self, text: &str) -> io::Result<()> {
        let mut printer = lock(&self.printer);
        match printer.as_mut().map(|printer| printer.print(text.to_owned())) {
            Some(Ok(())) => Ok(()),
            // The reader has ended, or there is none.
            Some(Err(_)) | None => print(text),
        }
    }

    /// Appends what is shown of an envelope, and remembers where its device is.
    fn show(&self, text: &mut String, envelope: &str) {
        match Shown::of(envelope) {
            Some(shown) => {
                self.remember(&shown);
                text.push_str(&shown.line(&local_time(), self.look));
            }
            None => text.push_str(&one_line(envelope)),
        }
        text.push('\n');
    }

    fn remember(&self, shown: &Shown<'_>) {
        let Some(id) = shown.deviceid.as_deref() else { return };
        let mut devices = lock(&self.devices);
        if devices.contains_key(id) || devices.len() >= DEVICES_MAX {
            return;
        }
        let path: Vec<_> =
            shown.source.split('/').skip(1).map(|part| percent_decode_str(part).decode_utf8_lossy()).collect();
        // product, device, and for a child `child` and its id.
        let ids: Vec<_> =
            path.iter().enumerate().filter(|(at, _)| *at < 2 || at % 2 == 1).map(|(_, id)| id.as_ref()).collect();
        if let Ok(address) = parse_address(&ids.join("/")) {
            devices.insert(id.to_owned(), address);
        }
    }
}

/// Envelopes, one a line, as the queue writes them.
struct Envelopes {
    screen: Arc<Screen>,
    /// The begin of a line.
    rest: Vec<u8>,
}

impl Write for Envelopes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.rest.extend_from_slice(bytes);
        let Some(end) = memchr::memrchr(b'\n', &self.rest) else { return Ok(bytes.len()) };
        let mut text = String::new();
        for line in String::from_utf8_lossy(&self.rest[..end]).lines() {
            self.screen.show(&mut text, line);
        }
        self.rest.drain(..=end);
        self.screen.print(&text)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines of the log.
struct Lines(Arc<Screen>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.print(&String::from_utf8_lossy(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Commands, one a line, as the queue reads them.
struct Typing {
    editor: DefaultEditor,
    screen: Arc<Screen>,
    /// Empty before the first line, and when no more commands are read.
    prompt: &'static str,
    is_ending: bool,
    /// Lines that were not read yet.
    rest: Vec<u8>,
    /// Closed with this.
    _alive: Sender<()>,
}

impl Read for Typing {
    /// The terminal is read until the process closes it, also when there are no more commands: what is printed is shown by
    /// whoever reads.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.prompt.is_empty() && !self.is_ending {
            self.prompt = PROMPT;
            print(WELCOME)?;
        }
        while self.rest.is_empty() {
            if self.screen.is_closing.load(Ordering::Acquire) {
                return Ok(0);
            }
            match self.editor.readline(self.prompt) {
                Ok(text) if !self.is_ending => self.take(&text)?,
                Ok(_) => {}
                Err(ReadlineError::Interrupted | ReadlineError::Eof) => self.end()?,
                Err(_) => return Ok(0),
            }
        }
        let taken = self.rest.as_slice().read(into)?;
        self.rest.drain(..taken);
        Ok(taken)
    }
}

impl Typing {
    fn take(&mut self, text: &str) -> io::Result<()> {
        let find = |id: &str| lock(&self.screen.devices).get(id).cloned();
        match typed::read(text, find) {
            Ok(Typed::Commands(lines)) => self.rest.extend(lines.concat().into_bytes()),
            Ok(Typed::Help) => print(HELP)?,
            Ok(Typed::End) => self.end()?,
            Err(mistake) => print(&format!("{}\n", one_line(&mistake)))?,
        }
        Ok(())
    }

    /// Ends the bridge as ctrl-C does where nobody takes it for a key.
    fn end(&mut self) -> io::Result<()> {
        if self.screen.is_closing.load(Ordering::Acquire) {
            return Ok(());
        }
        if !self.is_ending {
            self.is_ending = true;
            self.prompt = "";
            print(ENDING)?;
        }
        interrupt();
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let Some(reading) = self.reading.take() else { return };
        let screen = self.screen.clone();
        let (all, shown) = mpsc::channel::<()>();
        // A terminal that stands still takes nothing, and must not keep the process from ending.
        let flushing = thread::Builder::new().name("terminal".to_owned()).spawn(move || {
            let _all = all;
            for _ in 0..2 {
                let _unshown = screen.print(NOTHING);
            }
        });
        if flushing.is_ok() {
            let _ended = shown.recv_timeout(CLOSE_TIMEOUT);
        }
        self.screen.is_closing.store(true, Ordering::Release);
        // It is heard by whoever waits for a key, which is a matter of time where the reader is busy.
        for _ in 0..CLOSE_TIMEOUT.as_millis() / 10 {
            if reading.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            interrupt();
        }
    }
}

/// Sends this process SIGINT: a prompt takes it as ctrl-C, and without one it is the signal that ends the bridge.
fn interrupt() {
    let id = libc::pid_t::try_from(process::id()).unwrap_or_default();
    // SAFETY: kill takes two integers; 0 would be the process group, which this process belongs to as well.
    unsafe { libc::kill(id, libc::SIGINT) };
}

/// Writes to stdout at once.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time of day where the person is.
fn local_time() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = libc::time_t::try_from(seconds).unwrap_or_default();
    let mut local = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: localtime_r reads one number and writes one `tm`, both of which outlive the call. All zeros are a `tm`.
    let local = unsafe {
        libc::localtime_r(&raw const seconds, local.as_mut_ptr());
        local.assume_init()
    };
    format!("{:02}:{:02}:{:02}", local.tm_hour, local.tm_min, local.tm_sec)
}
