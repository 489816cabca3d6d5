//! The first moments of the bridge.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::bridge::{command, run_command};
use crate::support::wait::within;
use crate::support::{Bridge, Folder, Registry, Settings, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// A registry that takes the bridge a while to read, and the settings of a bridge that reads it.
fn slow_start() -> (Registry, Settings) {
    let (registry, _) = Registry::numbered(5_000);
    let settings = Settings::stdio(&registry);
    (registry, settings)
}

/// Starts the bridge and waits until it hears SIGTERM.
fn spawn_hearing(settings: &Settings) -> Bridge {
    let mut bridge = Bridge::spawn(settings, &[]);
    eventually("the bridge hears SIGTERM", PATIENCE, || bridge.process().catches(libc::SIGTERM).then_some(()));
    bridge
}

#[test]
fn signals_are_heard_before_anything_else_is_done() {
    let (_registry, settings) = slow_start();
    let folder = Folder::new("pipe");
    let pipe = folder.path().join("more.toml");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // It cannot go on before somebody writes the second part of its configuration.
    let mut bridge = Bridge::spawn(&settings, &["--config", &pipe.display().to_string()]);
    eventually("the bridge hears SIGTERM", PATIENCE, || bridge.process().catches(libc::SIGTERM).then_some(()));
    bridge.signal(libc::SIGTERM);
    fs::write(&pipe, "").unwrap();
    assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());
    assert!(!bridge.log().contains("listening"), "it went on with the start:\n{}", bridge.log());
}

#[test]
fn a_signal_at_any_moment_of_the_start_ends_the_bridge_in_good_order() {
    const ROUNDS: u32 = 16;
    let (_registry, settings) = slow_start();
    let begin = Instant::now();
    let mut bridge = spawn_hearing(&settings);
    bridge.listener("mqtt");
    let start = begin.elapsed() + Duration::from_millis(100);
    bridge.signal(libc::SIGINT);
    assert_eq!(bridge.exit_code(), 0, "{}", bridge.log());
    for round in 0..ROUNDS {
        let mut bridge = spawn_hearing(&settings);
        // Any moment is as good as any other: none is waited for that says something.
        within(start * round / ROUNDS, || bridge.process().ended());
        bridge.signal(libc::SIGTERM);
        assert_eq!(bridge.exit_code(), 0, "round {round} of {ROUNDS} in {start:?}:\n{}", bridge.log());
    }
}

#[test]
fn the_program_alone_says_where_its_devices_would_be_and_how_to_name_others() {
    let folder = Folder::new("empty");
    let mut call = command();
    call.arg("run").current_dir(folder.path());
    let finished = run_command(&mut call, "", PATIENCE);
    assert_eq!(finished.code, 78, "{finished:?}");
    for text in ["built-in configuration for development", "config/devices.toml in the current folder", "--config FILE"]
    {
        assert!(finished.stderr.contains(text), "{text}: {finished:?}");
    }
}
