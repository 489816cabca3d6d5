//! Lines as they are written.
#![expect(clippy::disallowed_methods, reason = "tests own the clock")]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tracing::subscriber::with_default;

use super::*;

/// Writes into memory.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The text of a log of that shape and level.
fn written(shape: Shape, level: &str, act: impl FnOnce(&LogControl)) -> String {
    let sink = Sink::default();
    let writer = sink.clone();
    let (filter, control) = control(level, |level| level != "none").unwrap();
    let lines = lines(shape, control.limiter(), move || writer.clone());
    with_default(tracing_subscriber::registry().with(lines.with_filter(filter)), || act(&control));
    sink.text()
}

const SHAPES: [Shape; 3] = [Shape::Text { ansi: false }, Shape::Text { ansi: true }, Shape::Json];

/// Which of these lines a log of that level has: of the bridge, of one of its modules, of a library, of the client that
/// repeats itself.
fn shown(level: &str) -> [bool; 4] {
    let text = written(Shape::Text { ansi: false }, level, |_| {
        tracing::info!(target: "jetlinks_bridge::app", "of the bridge");
        tracing::debug!(target: "jetlinks_bridge::transport::mqtt", "of a module");
        tracing::info!(target: "async_nats", "of a library");
        tracing::warn!(target: "async_nats::connector", "of the client");
    });
    ["of the bridge", "of a module", "of a library", "of the client"].map(|line| text.contains(line))
}

#[test]
fn a_level_without_a_module_counts_for_the_bridge_and_not_for_libraries_whatever_else_is_named() {
    assert_eq!(shown("info"), [true, false, false, false]);
    assert_eq!(shown("info,jetlinks_bridge::transport=debug"), [true, true, false, false]);
    assert_eq!(shown("jetlinks_bridge::transport=debug,info"), [true, true, false, false]);
    assert_eq!(shown("jetlinks_bridge::transport=debug"), [false, true, false, false]);
    assert_eq!(shown("jetlinks_bridge=warn,debug"), [false; 4]);
    assert_eq!(shown("debug"), [true, true, false, false]);
    assert_eq!(shown("error"), [false, false, false, false]);
}

#[test]
fn a_library_that_is_named_is_shown() {
    assert_eq!(shown("info,async_nats=debug"), [true, false, true, true]);
    assert_eq!(shown("warn,async_nats::connector=warn"), [false, false, false, true]);
    assert_eq!(directives("off"), "off");
}

#[test]
fn what_the_configuration_takes_for_a_level_is_one() {
    for level in ["off", "error", "warn", "info", "debug", "trace", "info,jetlinks_bridge::transport=debug"] {
        assert!(EnvFilter::try_new(directives(level)).is_ok(), "{level}");
    }
}

#[test]
fn nothing_that_a_peer_sends_ends_a_line_or_moves_the_cursor() {
    let hostile = "a\r\n2026-01-01 ERROR forged: device=\"b\" \u{1b}[2J\u{7}\u{9b}31m\u{2028}\u{202e}\\\"";
    for shape in SHAPES {
        let text = written(shape, "info", |_| {
            tracing::warn!(device = hostile, topic = %hostile, peer = ?hostile, "said {hostile}");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(text.ends_with('\n') && !text.contains(['\r', '\u{7}', '\u{9b}', '\u{2028}', '\u{202e}']), "{text:?}");
        assert!(!text.contains("\u{1b}[2J"), "{text:?}");
        let colours = if shape == (Shape::Text { ansi: true }) { 2 } else { 0 };
        assert_eq!(text.matches('\u{1b}').count(), colours, "{text:?}");
        if shape == Shape::Json {
            let line: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&line["device"], &line["topic"]), (&hostile.into(), &hostile.into()), "{text}");
        }
    }
}

fn warn_in_a_loop(count: usize) {
    for number in 0..count {
        tracing::warn!(number, "the same again");
    }
}

#[test]
fn on_a_terminal_the_level_has_a_colour_and_nothing_else() {
    let text = written(Shape::Text { ansi: true }, "info", |_| tracing::warn!(number = 1, "beware"));
    let (_, rest) = text.split_once(' ').unwrap();
    assert_eq!(rest, "\u{1b}[33m WARN\u{1b}[0m jetlinks_bridge::telemetry::log::tests: beware number=1\n");
}

#[test]
fn a_flood_of_one_kind_is_cut_and_hides_no_other() {
    for shape in SHAPES {
        let text = written(shape, "debug", |control| {
            warn_in_a_loop(1_000);
            tracing::warn!("another kind");
            assert!(control.suppressed(Level::WARN) > 900 && control.suppressed(Level::ERROR) == 0);
        });
        let shown = text.matches("the same again").count();
        assert!((20..100).contains(&shown), "{shown} of 1,000 in a moment");
        assert_eq!(text.matches("another kind").count(), 1);
    }
}

#[test]
fn debug_and_info_are_never_cut() {
    let text = written(Shape::Text { ansi: false }, "trace", |control| {
        for number in 0..500 {
            tracing::info!(number, "a line at info");
            tracing::debug!(number, "a line at debug");
        }
        assert_eq!(control.suppressed(Level::WARN), 0);
    });
    assert_eq!((text.matches("at info").count(), text.matches("at debug").count()), (500, 500));
}

#[test]
fn the_line_behind_a_gap_says_how_many_are_missing() {
    fn once(number: u64) {
        tracing::error!(number, "one kind");
    }
    for shape in SHAPES {
        let text = written(shape, "info", |control| {
            (0..100).for_each(once);
            assert!(control.suppressed(Level::ERROR) > 0);
            let is_suppressed = || {
                let before = control.suppressed(Level::ERROR);
                once(1_000);
                control.suppressed(Level::ERROR) > before
            };
            while is_suppressed() {}
        });
        let last = text.lines().last().unwrap();
        let (before, after) = match shape {
            Shape::Json => (",\"suppressed\":", "}"),
            Shape::Text { .. } => (" suppressed=", ""),
        };
        let number = last.rsplit_once(before).and_then(|(_, number)| number.strip_suffix(after)).unwrap();
        assert!(number.parse::<u64>().unwrap() >= 70, "{last}");
        if shape == Shape::Json {
            let line: serde_json::Value = serde_json::from_str(last).unwrap();
            assert_eq!((&line["message"], &line["number"]), (&"one kind".into(), &1_000.into()));
        }
    }
}

/// The metadata of some line at warn.
fn metadata() -> &'static Metadata<'static> {
    use tracing::Callsite as _;
    tracing::callsite!(name: "a warning", kind: tracing::metadata::Kind::EVENT, level: tracing::Level::WARN, fields: )
        .metadata()
}

#[test]
fn a_kind_gets_its_burst_and_then_ten_lines_a_second() {
    let (limiter, start) = (Limiter::default(), Instant::now());
    let passed = |after_ms: std::ops::Range<u64>| {
        after_ms.filter_map(|ms| limiter.pass(metadata(), start + Duration::from_millis(ms))).count()
    };
    assert_eq!(passed(0..1), 1);
    assert_eq!((0..1_000).filter_map(|_| limiter.pass(metadata(), start)).count(), 19);
    assert_eq!(passed(1..1_001), 10);
    assert_eq!(limiter.pass(metadata(), start + Duration::from_millis(1_050)), None);
    assert_eq!(limiter.pass(metadata(), start + Duration::from_millis(1_100)), Some(1));
    // After silence the whole burst is there, and not more.
    let later = start + Duration::from_secs(3_600);
    assert_eq!((0..1_000).filter_map(|_| limiter.pass(metadata(), later)).count(), 20);
}

#[test]
fn the_level_changes_while_the_process_runs_and_a_bad_one_changes_nothing() {
    let text = written(Shape::Text { ansi: false }, "info", |control| {
        let speak = |word: &'static str| tracing::debug!(word, "said");
        speak("before");
        assert_eq!(control.set_level("debug"), Ok(()));
        assert_eq!(control.level(), "debug");
        speak("between");
        assert_eq!(control.set_level("none"), Err(LogError::Level));
        assert_eq!(control.level(), "debug");
        speak("still");
        assert_eq!(control.set_level("warn"), Ok(()));
        speak("after");
    });
    assert!(text.contains("between") && text.contains("still"), "{text}");
    assert!(!text.contains("before") && !text.contains("after"), "{text}");
}

#[test]
fn lines_that_hold_what_passes_over_a_connection_are_written_at_no_level() {
    for level in ["trace,async_nats=trace", "async_nats::connection=trace"] {
        let text = written(Shape::Text { ansi: false }, level, |control| {
            let speak = || {
                tracing::trace!(target: "async_nats::connection", op = "secret", "read operation completed");
                tracing::debug!(target: "async_nats::connection", "a line at debug");
            };
            speak();
            assert_eq!(control.set_level("info,async_nats=trace"), Ok(()));
            speak();
        });
        assert_eq!((text.matches("secret").count(), text.matches("a line at debug").count()), (0, 2), "{text}");
    }
}
