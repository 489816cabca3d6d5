//! The log: its level while the bridge runs, what peers can put into it, and how much of it.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::Stage;
use crate::support::bridge::wait_for_log;
use crate::support::{Bridge, Connect, Pipe, Registry, Settings, Wire, eventually, http, packet, port};

const PATIENCE: Duration = Duration::from_secs(60);

/// Of what MQTT lets through: a line separator, a change of direction, quotes, and what a line of the bridge itself looks
/// like. A text with control characters closes the connection that it comes on.
const HOSTILE: &str = "a\u{2028}2026-01-01T00:00:00Z ERROR forged\u{202e}\"b\"\\";

fn put_level(stage: &Stage, body: &str) -> (u16, Value) {
    let answer = http::put(stage.bridge.admin(), "/api/log", body).unwrap();
    (answer.status, serde_json::from_str(&answer.body).unwrap())
}

fn level(stage: &Stage) -> Value {
    serde_json::from_str(&http::get(stage.bridge.admin(), "/api/log").unwrap().body).unwrap()
}

/// How often a line of debug was written that each new session causes.
fn sessions_told(stage: &Stage) -> usize {
    stage.bridge.log().matches("a session began").count()
}

#[test]
fn a_debug_line_is_written_after_the_level_was_changed_and_not_before() {
    let mut stage = Stage::new();
    assert_eq!(level(&stage)["level"], "info");
    let _first = stage.connect1();
    for (body, expected) in [
        (r#"{"level":"debug"}"#, "debug"),
        (r#"{"level":"warn,jetlinks_bridge::app::meter=debug"}"#, "warn,jetlinks_bridge::app::meter=debug"),
    ] {
        let before = sessions_told(&stage);
        let (status, answer) = put_level(&stage, body);
        assert_eq!((status, &answer["level"]), (200, &expected.into()), "{answer}");
        assert_eq!(level(&stage), answer);
        let device2 = stage.device2.clone();
        let mut wire = stage.connect(&device2);
        eventually("the session is told", PATIENCE, || (sessions_told(&stage) == before + 1).then_some(()));
        wire.send(&packet::DISCONNECT);
        stage.bridge.expect("device.offline", "device2");
    }
    let log = stage.bridge.log();
    assert!(!log.contains("a session began device=\"device1\""), "debug before it was asked for:\n{log}");
}

#[test]
fn a_bad_level_is_refused_and_changes_nothing() {
    let mut stage = Stage::new();
    for body in [r#"{"level":"verbose"}"#, r#"{"level":"info,jetlinks_bridge=loud"}"#, r#"{"level":""}"#, "debug"] {
        let (status, answer) = put_level(&stage, body);
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["error"].as_str().is_some_and(|reason| reason.len() > 20), "{body}: {answer}");
        assert_eq!(level(&stage)["level"], "info", "{body}");
    }
    let _wire = stage.connect1();
    assert_eq!(sessions_told(&stage), 0, "{}", stage.bridge.log());
}

#[test]
fn nothing_that_a_device_sends_ends_a_line_of_the_log_or_moves_the_cursor() {
    for format in ["text", "json"] {
        let mut stage = Stage::with(|settings| settings.text("log.format", format).text("log.level", "debug"));
        let connect = Connect { client_id: HOSTILE.to_owned(), ..Connect::of(&stage.device1) };
        let mut stranger = Wire::open(stage.bridge.mqtt());
        stranger.send(&connect.bytes());
        assert_eq!(stranger.next_packet().body, [0, 4]);
        let mut wire = stage.connect1();
        wire.publish(&stage.device1.topic(HOSTILE), "{}", 0, 0);
        wire.publish(&format!("/product1/{HOSTILE}/tags"), "{}", 0, 0);
        wire.wait_closed();
        let told = ["connection refused", "a message was rejected", "on the topic of another device"];
        let lines: Vec<String> = told.iter().map(|text| wait_for_log(&stage.bridge, &[text, "forged"])).collect();
        for line in lines {
            if format == "json" {
                let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let texts = ["device", "topic"].map(|name| line[name].as_str().unwrap_or_default().to_owned());
                assert!(texts.iter().any(|text| text.contains(HOSTILE)), "{line}");
            }
        }
        let log = stage.bridge.log();
        assert!(!log.split(['\n', '\u{2028}']).any(|line| line.starts_with("2026-01-01T00:00:00Z")), "{log}");
        let moves = |c: char| matches!(c, '\u{2028}' | '\u{202e}') || c.is_control() && c != '\n';
        assert!(!log.contains(moves), "{log:?}");
    }
}

#[test]
fn a_flood_of_one_warning_is_cut_and_the_line_behind_the_gap_says_how_many_are_missing() {
    const FLOOD: usize = 60;
    // One device alone would be let in once a second.
    let (registry, devices) = Registry::numbered(FLOOD / 3);
    let bridge = Bridge::start(&Settings::stdio(&registry));
    let mut devices = devices.iter().cycle();
    let suppressed = || bridge.metric("jetlinks_bridge_log_lines_suppressed_total", &["level=\"warn\""]);
    let mut speak_for_another = || {
        let mut wire = Wire::connect(bridge.mqtt(), devices.next().unwrap());
        wire.publish("/product1/device99/tags", "{}", 0, 0);
        wire.wait_closed();
    };
    (0..FLOOD).for_each(|_| speak_for_another());
    eventually("lines are left out", PATIENCE, || {
        speak_for_another();
        (suppressed() > 0.0).then_some(())
    });
    let line = eventually("a line says how many", PATIENCE, || {
        speak_for_another();
        let log = bridge.log();
        log.lines().find(|line| line.contains(" suppressed=")).map(str::to_owned)
    });
    assert!(line.contains("WARN") && line.contains("a message on the topic of another device"), "{line}");
    let missing: f64 = line.rsplit_once("suppressed=").unwrap().1.parse().unwrap();
    assert!((1.0..=suppressed()).contains(&missing), "{line}");
}

#[test]
fn what_a_log_that_nobody_reads_leaves_out_is_counted_and_told_once_it_is_read() {
    for format in ["text", "json"] {
        let (registry, devices) = Registry::numbered(1);
        let pipe = Pipe::new();
        let settings = Settings::stdio(&registry).text("log.level", "trace").text("log.format", format);
        let [mqtt, admin] = [0; 2].map(|_| SocketAddr::from(([127, 0, 0, 1], port::free_port())));
        let mut bridge = Bridge::start_logging_to(pipe.end(), &settings, mqtt, admin);
        let dropped = || bridge.metric("jetlinks_bridge_log_lines_dropped_total", &[]);
        assert!(dropped() == 0.0);
        pipe.fill();
        let mut wire = Wire::connect(mqtt, &devices[0]);
        // Each causes a line of some hundred bytes; a good megabyte of them waits.
        let topic = devices[0].topic(&"x".repeat(200));
        eventually("lines are left out", PATIENCE, || {
            for id in 1..=100 {
                wire.publish_acknowledged(&topic, "{}", id);
            }
            (dropped() > 100.0).then_some(())
        });
        let counted = dropped();
        let (sender, lines) = mpsc::channel();
        let reading = pipe.read(move |line| drop(sender.send(line)));
        let told =
            eventually("the gap is told", PATIENCE, || lines.try_iter().find(|line| line.contains("was not read")));
        let missing: f64 = if format == "json" {
            let line: Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told}"));
            assert_eq!((&line["level"], &line["target"]), (&"WARN".into(), &"jetlinks_bridge::telemetry::log".into()));
            line["suppressed"].as_f64().unwrap()
        } else {
            assert!(told.contains(" WARN jetlinks_bridge::telemetry::log: "), "{told}");
            told.rsplit_once(" suppressed=").unwrap().1.parse().unwrap()
        };
        assert!(missing >= counted, "{missing} and {counted}: {told}");
        wire.publish_acknowledged(&topic, "{}", 1);
        bridge.signal(libc::SIGTERM);
        assert_eq!(bridge.exit_code(), 0);
        reading.join().unwrap();
        assert!(lines.try_iter().any(|line| line.contains("all sessions are closed")), "the end of the log is missing");
    }
}
