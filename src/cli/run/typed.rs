//! Lines of a person at the prompt: JSON as stdin takes it, or a short form of it.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::cli::send::{CommandInput, DeviceAddress, parse_address, parse_type};
use crate::protocol::topic::MessageType;

/// Text of `help`.
pub(super) const HELP: &str = r#"Commands, each with an example:
  read DEVICE NAME...                   read device1 sn
  write DEVICE NAME=VALUE...            write device1 interval=5
  call DEVICE FUNCTION [NAME=VALUE...]  call device1 reboot delay=3
  TYPE DEVICE [JSON]                    firmware.read device1
or JSON as docs/wire.md has it, such as
{"messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1","properties":["sn"]}
DEVICE is an id that was shown here, or PRODUCT/DEVICE, or PRODUCT/GATEWAY/CHILD.
The outcome is marked with <-, a failure with !!.
Arrows edit the line and bring earlier ones back. Ctrl-C or ctrl-D ends the bridge.
"#;

/// Meaning of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    /// Commands in JSON, each on one line.
    Commands(Vec<String>),
    /// The text that tells what there is.
    Help,
    /// The end of the bridge.
    End,
}

/// Reads what was typed or pasted; `find` gives the address of a device that was shown.
///
/// # Errors
/// A sentence for the person who typed it.
pub(super) fn read(text: &str, find: impl Fn(&str) -> Option<DeviceAddress>) -> Result<Typed, String> {
    let text = text.trim();
    if text.starts_with('{') {
        return json(text).map(Typed::Commands);
    }
    let (verb, rest) = split(text);
    match verb {
        "" => return Ok(Typed::Commands(Vec::new())),
        "help" | "?" => return Ok(Typed::Help),
        "quit" | "exit" => return Ok(Typed::End),
        _ => {}
    }
    let (device, rest) = split(rest);
    let (kind, fields) = match verb {
        "read" => (MessageType::ReadProperty, properties(rest)?),
        "write" => (MessageType::WriteProperty, written(rest)?),
        "call" => (MessageType::InvokeFunction, call(rest)?),
        _ => (
            parse_type(verb)
                .map_err(|expected| format!("{verb}: no command; `help` shows them. A type is {expected}"))?,
            rest.to_owned(),
        ),
    };
    if device.is_empty() {
        return Err(format!("{verb}: which device? For example: {verb} device1"));
    }
    let address = match find(device) {
        Some(address) => address,
        None if device.contains('/') => parse_address(device).map_err(|error| format!("{device}: {error}"))?,
        None => return Err(format!("{device}: not shown so far; name it as product1/{device}")),
    };
    let input = CommandInput::new(fields.as_bytes(), Some((address, kind)))?;
    let (_key, command) = input.record(&input.command()?)?;
    Ok(Typed::Commands(vec![line(&command)]))
}

/// Each object of a text that may have several, in one line.
fn json(text: &str) -> Result<Vec<String>, String> {
    let values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    values.map(|value| value.map(|value| line(value.get())).map_err(|error| format!("not JSON: {error}"))).collect()
}

/// Line breaks of JSON stand between its parts alone.
fn line(json: &str) -> String {
    format!("{}\n", json.replace(['\n', '\r'], " "))
}

fn split(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

fn properties(names: &str) -> Result<String, String> {
    let names: Vec<Value> = names.split_whitespace().map(Value::from).collect();
    if names.is_empty() {
        return Err("read: which properties? For example: read device1 sn".to_owned());
    }
    Ok(object([("properties", names.into())]))
}

fn written(values: &str) -> Result<String, String> {
    let values = assignments(values)?;
    if values.is_empty() {
        return Err("write: which values? For example: write device1 interval=5".to_owned());
    }
    Ok(object([("properties", values.into())]))
}

fn call(text: &str) -> Result<String, String> {
    let (function, inputs) = split(text);
    if function.is_empty() {
        return Err("call: which function? For example: call device1 reboot".to_owned());
    }
    Ok(object([("functionId", function.into()), ("inputs", assignments(inputs)?.into())]))
}

/// Reads `a=1 b=text`. A value is JSON, or else a text.
fn assignments(text: &str) -> Result<Map<String, Value>, String> {
    let read = |word: &str| {
        let (name, value) = word.split_once('=').ok_or_else(|| format!("{word}: expected NAME=VALUE"))?;
        Ok((name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into())))
    };
    text.split_whitespace().map(read).collect()
}

fn object<const N: usize>(members: [(&str, Value); N]) -> String {
    Value::from_iter(members.map(|(name, value)| (name.to_owned(), value))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(id: &str) -> Option<DeviceAddress> {
        let known = ["product1/device1", "product1/gw1/child1"];
        known.iter().find(|path| path.ends_with(&format!("/{id}"))).map(|path| parse_address(path).unwrap())
    }

    fn commands(text: &str) -> Vec<Value> {
        let Typed::Commands(lines) = read(text, find).unwrap() else { panic!("{text} asks for something else") };
        assert!(lines.iter().all(|line| line.ends_with('\n') && line.matches('\n').count() == 1), "{lines:?}");
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_short_form_is_the_command_that_its_json_is() {
        for (short, members) in [
            ("read device1 sn  model", r#""messageType":"READ_PROPERTY","properties":["sn","model"]"#),
            (
                "write product1/device1 a=5 b=x c={\"d\":1}",
                r#""messageType":"WRITE_PROPERTY","properties":{"a":5,"b":"x","c":{"d":1}}"#,
            ),
            (
                "call device1 reboot delay=3",
                r#""messageType":"INVOKE_FUNCTION","functionId":"reboot","inputs":{"delay":3}"#,
            ),
            ("firmware.read device1", r#""messageType":"READ_FIRMWARE""#),
            (
                "properties.read device1 {\"properties\":[\"sn\"]}",
                r#""messageType":"READ_PROPERTY","properties":["sn"]"#,
            ),
        ] {
            let json = format!(r#"{{{members},"productId":"product1","deviceId":"device1"}}"#);
            assert_eq!(commands(short), commands(&json), "{short}");
        }
        let child = commands("read child1 sn").remove(0);
        assert_eq!((&child["gatewayId"], &child["deviceId"]), (&"gw1".into(), &"child1".into()));
        assert_eq!(commands("read product2/gw2/child2 sn")[0]["productId"], "product2");
    }

    #[test]
    fn pasted_json_may_span_lines_and_hold_several_commands() {
        let pasted = "{\n  \"a\": 1.50,\r\n  \"b\": \"x y\"\n}\n{\"c\":2}\n";
        let Ok(Typed::Commands(lines)) = read(pasted, find) else { panic!("{pasted}") };
        assert_eq!(lines, ["{   \"a\": 1.50,    \"b\": \"x y\" }\n", "{\"c\":2}\n"]);
        assert!(read("{\"a\":", find).unwrap_err().starts_with("not JSON"));
    }

    #[test]
    fn a_mistake_names_what_is_missing_with_an_example() {
        assert_eq!(read("  ", find), Ok(Typed::Commands(Vec::new())));
        assert_eq!((read("help", find), read("exit", find)), (Ok(Typed::Help), Ok(Typed::End)));
        for (text, said) in [
            ("nosuch device1", "`help`"),
            ("firmware.read", "which device?"),
            ("read device1", "read device1 sn"),
            ("read device9 sn", "product1/device9"),
            ("write device1 a", "NAME=VALUE"),
            ("call device1", "call device1 reboot"),
        ] {
            let error = read(text, find).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
