//! The scanner against an independent reader of JSON.

use jetlinks_bridge::protocol::json::{DEPTH_MAX, JsonErrorKind, compact, scan, unescape};
use serde_json::Value;

use crate::support::Random;

const SEEDS: &[&str] = &[
    r#"{"timestamp":1601196762389,"messageId":"m1","properties":{"temp":36.80,"list":[1,-2.5e+10,{"x":null}],"b":true}}"#,
    r#"{"a":"\"\\\/\b\f\n\r\t\u0041\ud83d\ude00 中文😀","b":{"c":{"d":[[],[{}],{"e":[]}]}}}"#,
    r#"{"a":1,"a":2,"\u0061":{"k":1,"k":2,"\u006b":[{"z":0,"z":1}]},"b":-0.0,"c":1E-7,"":""}"#,
    "{ \"a\" :\n[ 1 ,\t2 , \"x\\u00e9y\" ] ,\r\n \"b\" : { } , \"c\" : false }  ",
    "\u{feff}{\"a\":[[[[[[[[[[[[1]]]]]]]]]]]]}",
    r#"{"0":0,"1":1,"2":2,"3":3,"4":4,"5":5,"o":{"6":6,"7":7,"8":8,"9":9,"10":0,"11":1,"12":2,"13":3,"14":4,"15":5,"16":6,"17":7,"6":8}}"#,
];

/// Pieces that make mutations interesting more often than single bytes do.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\\u0000",
    "null",
    "true",
    "fals",
    "0",
    "-",
    "1e5",
    "1.",
    ".5",
    "01",
    "\u{0}",
    "\u{1f}",
    "\u{7f}",
    "é",
    "\n",
    " ",
    "{\"a\":1,\"a\":2}",
    "[[[[[[[[[[[[[[[[",
    "{\"x\":{\"x\":{\"x\":",
    "\u{feff}",
    "//",
    "'",
];

/// Nesting of brackets outside strings, as deep as it gets before anything is wrong.
fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn oracle(payload: &[u8]) -> Option<Value> {
    let payload = payload.strip_prefix("\u{feff}".as_bytes()).unwrap_or(payload);
    serde_json::from_slice(payload).ok().filter(Value::is_object)
}

/// Payload as the own reader splits it, joined again from its parts.
fn rebuilt(payload: &[u8]) -> Result<Value, JsonErrorKind> {
    let mut object = serde_json::Map::new();
    scan(payload, |member| {
        let value = match member.irregular {
            true => compact(member.value),
            false => member.value.as_bytes().to_vec(),
        };
        assert!(!value.contains(&b'\n') && !value.contains(&b'\r'));
        let value = serde_json::from_slice(&value).expect("a member's value is JSON");
        object.insert(unescape(member.key).into_owned(), value);
    })
    .map_err(|error| error.kind)?;
    Ok(Value::Object(object))
}

fn mutated(random: &mut Random) -> Vec<u8> {
    let mut payload = SEEDS[random.below(SEEDS.len())].as_bytes().to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(payload.len() + 1);
        let piece = PIECES[random.below(PIECES.len())].as_bytes();
        match random.below(6) {
            0 if at < payload.len() => payload[at] = random.next() as u8,
            1 if at < payload.len() => drop(payload.remove(at)),
            2 => payload.truncate(at),
            3 => drop(payload.splice(at..at, piece.iter().copied())),
            4 => {
                let end = (at + random.below(8)).min(payload.len());
                drop(payload.splice(at..end, piece.iter().copied()));
            }
            _ => {
                let from = random.below(payload.len() + 1);
                let end = (from + random.below(24)).min(payload.len());
                let part = payload[from..end].to_vec();
                drop(payload.splice(at..at, part));
            }
        }
    }
    payload
}

#[test]
fn the_scanner_accepts_and_reads_what_an_independent_reader_does() {
    let seed = 0x9e37_79b9_7f4a_7c15;
    println!("seed {seed:#x}");
    let mut random = Random::new(seed);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..300_000 {
        let payload = mutated(&mut random);
        let ours = rebuilt(&payload);
        match oracle(&payload) {
            Some(theirs) if depth(&payload) <= DEPTH_MAX => {
                assert_eq!(ours, Ok(theirs), "round {round}: {}", payload.escape_ascii());
                accepted += 1;
            }
            Some(_) => assert_eq!(ours, Err(JsonErrorKind::Depth), "round {round}: {}", payload.escape_ascii()),
            None => {
                assert!(ours.is_err(), "round {round}: {}", payload.escape_ascii());
                refused += 1;
            }
        }
    }
    assert!(accepted > 10_000 && refused > 10_000, "{accepted} accepted, {refused} refused");
}

#[test]
fn compact_changes_nothing_that_an_independent_reader_sees() {
    let seed = 0x2545_f491_4f6c_dd1d;
    println!("seed {seed:#x}");
    let mut random = Random::new(seed);
    let mut seen = 0;
    for _ in 0..200_000 {
        let payload = mutated(&mut random);
        let Ok(text) = std::str::from_utf8(&payload) else { continue };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if scan(text.as_bytes(), |_| ()).is_err() {
            continue;
        }
        let written = compact(text);
        assert_eq!(oracle(&written), oracle(text.as_bytes()), "{text}");
        assert_eq!(compact(std::str::from_utf8(&written).expect("UTF-8")), written, "{text}");
        seen += 1;
    }
    assert!(seen > 5_000, "{seen}");
}
