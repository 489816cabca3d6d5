//! `run` on a terminal, as a person meets it.

use crate::support::bridge::command;
use crate::support::terminal::Terminal;
use crate::support::{Folder, Registration, Registry, Settings, Wire};

/// A bridge on a terminal, and a device that is connected to it.
struct Stage {
    terminal: Terminal,
    wire: Wire,
    _files: (Registry, Folder),
}

const JSON: &str = r#"{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","properties":["sn"]}"#;

impl Stage {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut std::process::Command)) -> Self {
        let device = Registration::new("device1");
        let registry = Registry::new(std::slice::from_ref(&device));
        let folder = Folder::new("terminal");
        let config = folder.write("bridge.toml", &Settings::stdio(&registry).render());
        let mut call = command();
        call.arg("run").arg("--config").arg(config).env_remove("NO_COLOR");
        change(&mut call);
        let terminal = Terminal::start(call);
        let listening = terminal.row("the listener", |row| row.contains("listener=mqtt"));
        let address = listening.rsplit("address=").next().unwrap().parse().unwrap();
        terminal.row("the prompt", |row| row == ">");
        let wire = Wire::connect(address, &device);
        terminal.row("the device's online", |row| row.contains("device1") && row.contains("online"));
        Self { terminal, wire, _files: (registry, folder) }
    }

    fn report(&mut self, id: u16) {
        let body = format!(r#"{{"properties":{{"temperature":36.80,"n":{id}}}}}"#);
        self.wire.publish_acknowledged("/product1/device1/properties/report", &body, id);
    }

    /// Answers the next command with a serial number.
    fn answer(&mut self, sn: &str) {
        let read = self.wire.next_publish();
        assert_eq!(read.topic, "/product1/device1/properties/read");
        self.wire.reply(&read, &format!(r#""properties":{{"sn":"{sn}"}}"#));
    }

    /// Ends the bridge by keys: all is said, and the terminal is as it was.
    fn end(mut self, keys: &str) {
        self.terminal.press(keys);
        assert_eq!(self.terminal.exit_code(), 0, "{:#?}", self.terminal.rows());
        self.terminal.row("the last line", |row| row.contains("all sessions are closed, everything is acknowledged"));
        let rows = self.terminal.rows();
        let at = |text: &str| rows.iter().position(|row| row.contains(text));
        let (said, offline) = (at("ends once everything is acknowledged"), at("cause=drained"));
        assert!(said.is_some() && said < offline, "{rows:#?}");
        self.terminal.assert_left();
    }
}

#[test]
fn an_envelope_is_one_short_line_and_the_line_that_is_typed_survives_it() {
    let mut stage = Stage::new();
    stage.terminal.press("read dev");
    stage.terminal.row("what is typed", |row| row == "> read dev");
    stage.report(1);
    let shown = stage.terminal.row("the report", |row| row.contains("n=1"));
    assert!(shown.ends_with("device1  properties.report temperature=36.80 n=1"), "{shown}");
    let time: Vec<_> = shown[..8].split(':').map(|part| part.parse::<u8>().unwrap()).collect();
    assert!(time.len() == 3 && time[0] < 24 && time[1] < 60 && time[2] < 61, "{shown}");
    let last = stage.terminal.row("the line below it", |row| row == "> read dev");
    assert_eq!(stage.terminal.rows().last(), Some(&last), "{:#?}", stage.terminal.rows());

    stage.terminal.press("ice1 sn\r");
    stage.answer("s1");
    let reply = stage.terminal.row("the reply", |row| row.contains("sn=s1"));
    assert!(reply.contains("<- device1  properties.read.reply sn=s1"), "{reply}");
    assert!(
        stage.terminal.written().contains("\u{1b}[32m\u{1b}[1mproperties.read.reply"),
        "{}",
        stage.terminal.written()
    );

    // The line before, out of the history.
    stage.terminal.press("\u{1b}[A\r");
    stage.answer("s2");
    stage.terminal.row("the second reply", |row| row.contains("sn=s2"));
    stage.end("\u{3}");
}

#[test]
fn pasted_json_is_a_command_and_help_has_one_to_paste() {
    let mut stage = Stage::new();
    stage.terminal.press("help\r");
    stage.terminal.row("an example", |row| row == JSON);
    stage.terminal.row("a short form", |row| row.contains("read device1 sn") && row.contains("read DEVICE"));
    // As a terminal marks what is pasted.
    let pasted = JSON.replace(',', ",\n  ");
    stage.terminal.press(&format!("\u{1b}[200~{pasted}\u{1b}[201~\r"));
    stage.answer("s1");
    stage.terminal.row("the reply", |row| row.contains("<-") && row.contains("sn=s1"));
    stage.end("\u{4}");
}

#[test]
fn mistakes_and_what_is_rejected_are_told_in_words_and_marked() {
    let mut stage = Stage::new();
    stage.terminal.press("raed device1 sn\r");
    stage.terminal.row("a hint", |row| row.contains("raed: no command; `help` shows them"));
    stage.terminal.press("read product1/device9 sn\r");
    let offline = stage.terminal.row("a failure", |row| row.contains("CLIENT_OFFLINE"));
    assert!(offline.contains("!! device9  properties.read.reply"), "{offline}");
    stage.wire.publish_acknowledged("/product1/device1/nosuch", "{", 1);
    let rejected = stage.terminal.row("what is rejected", |row| row.contains("unknown_topic"));
    assert!(
        rejected.contains("!! device1  rejected") && rejected.contains("topic=/product1/device1/nosuch"),
        "{rejected}"
    );
    // What a device sends never reaches the terminal as a sequence that it obeys.
    stage.wire.publish_acknowledged("/product1/device1/log", "{\"log\":\"\u{9b}31m\u{202e}\"}", 2);
    stage.terminal.row("the text", |row| row.contains("\\u009b31m\\u202e"));
    stage.end("exit\r");
}

#[test]
fn sigterm_ends_it_at_the_prompt_with_the_last_line_and_the_terminal_as_it_was() {
    let stage = Stage::with(|call| {
        call.env("NO_COLOR", "1");
    });
    stage.terminal.process.signal(libc::SIGTERM);
    let mut stage = stage;
    assert_eq!(stage.terminal.exit_code(), 0, "{:#?}", stage.terminal.rows());
    stage.terminal.row("the last line", |row| row.contains("everything is acknowledged"));
    stage.terminal.row("the offline", |row| row.contains("cause=drained"));
    stage.terminal.assert_left();
    let written = stage.terminal.written();
    assert!(!written.contains("\u{1b}[36m"), "{written}");
}

#[test]
fn with_output_json_a_terminal_gets_what_a_pipe_gets_and_commands_without_a_prompt() {
    let (registry, _) = Registry::numbered(1);
    let folder = Folder::new("terminal");
    let config = folder.write("bridge.toml", &Settings::stdio(&registry).render());
    let mut call = command();
    call.args(["run", "--output", "json", "--config"]).arg(config);
    let mut terminal = Terminal::start(call);
    terminal.row("the listener", |row| row.contains("listener=mqtt"));
    terminal.press("{}\r");
    // The terminal echoes the line itself, the whole outcome follows.
    terminal.row("an envelope", |row| row.starts_with(r#"{"specversion":"1.0","id":""#));
    assert!(terminal.is_cooked() && !terminal.rows().iter().any(|row| row.starts_with('>')), "{:#?}", terminal.rows());
    terminal.press("\u{3}");
    assert_eq!(terminal.exit_code(), 0, "{:#?}", terminal.rows());
}
