//! One envelope in one short line, for people.

use std::borrow::Cow;
use std::fmt;

use console::{Style, truncate_str};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::cli::output::{escaped, one_line};
use crate::protocol::json::must_be_escaped;

/// Members of `data` that the line says otherwise, or that are of use to programs alone.
const UNSAID: [&str; 6] = ["messageType", "messageId", "deviceId", "timestamp", "success", "payload_base64"];

/// Members of `data` whose own members are shown in their place.
const OPENED: [&str; 4] = ["properties", "tags", "headers", "data"];

/// How lines look.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    /// Whether there are colours.
    pub(super) has_colours: bool,
    /// Columns of the terminal. A line of a message ends there; outcomes and what was rejected are shown whole.
    pub(super) width: Option<usize>,
}

/// The parts of an envelope that are shown, and where its device is.
#[derive(Debug, Deserialize)]
pub(super) struct Shown<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    /// `/product1/device1`, for a child `/product1/gw1/child/child1`
    #[serde(borrow, default)]
    pub(super) source: Cow<'a, str>,
    #[serde(borrow, default)]
    subject: Option<Cow<'a, str>>,
    /// The device that the envelope is about.
    #[serde(borrow, default)]
    pub(super) deviceid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    gatewayid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    correlationid: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Members<'a>,
}

impl<'a> Shown<'a> {
    /// Reads a structured envelope. `None`: it is none.
    pub(super) fn of(envelope: &'a str) -> Option<Self> {
        serde_json::from_str(envelope).ok()
    }

    /// The line, without a line feed: `time`, device, type, data.
    pub(super) fn line(&self, time: &str, look: Look) -> String {
        let style = |style: Style| style.force_styling(look.has_colours);
        let kind = self.kind.strip_prefix("org.jetlinks.device.");
        let kind = kind.or_else(|| self.kind.strip_prefix("org.jetlinks.bridge.")).unwrap_or(&self.kind);
        let is_outcome = self.correlationid.is_some();
        let is_rejected = self.kind.starts_with("org.jetlinks.bridge.");
        let is_failure = self.data.has("success", "false");
        let (mark, stress) = match (is_rejected || is_outcome && is_failure, is_outcome) {
            (true, _) => ("!!", style(Style::new().red().bold())),
            (false, true) => ("<-", style(Style::new().green().bold())),
            (false, false) => ("  ", style(Style::new().cyan())),
        };
        let device = match (&self.gatewayid, &self.deviceid) {
            (Some(gateway), Some(device)) => format!("{gateway}/{device}"),
            (_, Some(device)) => device.to_string(),
            (_, None) => "-".to_owned(),
        };
        let subject = self.subject.as_ref().map(|subject| format!(" {subject}")).unwrap_or_default();
        let dim = style(Style::new().dim());
        let line = format!(
            "{} {mark} {} {} {}",
            dim.apply_to(time),
            style(Style::new().bold()).apply_to(format!("{:<8}", escaped(&device))),
            stress.apply_to(format!("{:<17}", escaped(&format!("{kind}{subject}")))),
            self.values(&dim),
        );
        let line = line.trim_end();
        match look.width.filter(|_| !is_outcome && !is_rejected) {
            Some(width) => truncate_str(line, width, "…").into_owned(),
            None => line.to_owned(),
        }
    }

    fn values(&self, names: &Style) -> String {
        let mut shown = Vec::new();
        for (name, value) in self.data.0.iter().filter(|(name, _)| !UNSAID.contains(&name.as_ref())) {
            let opened = OPENED.contains(&name.as_ref()).then(|| serde_json::from_str::<Members<'_>>(value.get()));
            match opened {
                Some(Ok(members)) => shown.extend(members.0.iter().map(|(name, value)| pair(name, value, names))),
                _ => shown.push(pair(name, value, names)),
            }
        }
        shown.join(" ")
    }
}

fn pair(name: &str, value: &RawValue, names: &Style) -> String {
    format!("{}{}", names.apply_to(escaped(&format!("{name}="))), plain(value))
}

/// A value as JSON in one line; a text that nothing else could be taken for without its quotes.
fn plain(value: &RawValue) -> String {
    let is_plain = |text: &str| {
        !text.is_empty()
            && !text.contains(|c: char| c.is_whitespace() || must_be_escaped(c) || "\"=\\,{}[]".contains(c))
            && serde_json::from_str::<&RawValue>(text).is_err()
    };
    match serde_json::from_str::<String>(value.get()) {
        Ok(text) if is_plain(&text) => escaped(&text).into_owned(),
        _ => one_line(value.get()),
    }
}

/// Members of an object, in their order.
#[derive(Debug, Default)]
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl Members<'_> {
    fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(other, raw)| other == name && raw.get() == value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl<'de> Visitor<'de> for Reading {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Reading)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { has_colours: false, width: None };

    fn line(envelope: &str, look: Look) -> String {
        Shown::of(envelope).expect("an envelope").line("12:00:01", look)
    }

    #[test]
    fn a_report_is_its_values_in_their_order_and_with_their_digits() {
        let report = r#"{"source":"/p/device1","type":"org.jetlinks.device.properties.report","deviceid":"device1",
            "data":{"messageType":"REPORT_PROPERTY","messageId":"1","timestamp":1,"properties":{"t":36.80,"b":{"c":[1]},"a":"x y","s":"1","w":"on"}}}"#;
        let shown = r#"12:00:01    device1  properties.report t=36.80 b={"c":[1]} a="x y" s="1" w=on"#;
        assert_eq!(line(report, PLAIN), shown);
        let narrow = line(report, Look { width: Some(48), ..PLAIN });
        assert_eq!(narrow, "12:00:01    device1  properties.report t=36.80 …");
        let coloured = line(report, Look { has_colours: true, ..PLAIN });
        assert_eq!(console::strip_ansi_codes(&coloured), shown);
        assert!(coloured.contains("\u{1b}[36mproperties.report\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn outcomes_and_what_is_rejected_are_marked_and_shown_whole() {
        let look = Look { has_colours: false, width: Some(20) };
        let reply = r#"{"type":"org.jetlinks.device.properties.read.reply","deviceid":"device1","correlationid":"1","data":{"properties":{"sn":"a"},"success":true}}"#;
        assert_eq!(line(reply, look), "12:00:01 <- device1  properties.read.reply sn=a");
        let failed = reply.replace("true", r#"false,"code":"TIME_OUT","message":"no reply""#);
        assert!(
            line(&failed, look).ends_with(r#"!! device1  properties.read.reply sn=a code=TIME_OUT message="no reply""#)
        );
        let rejected = r#"{"type":"org.jetlinks.bridge.rejected","deviceid":"child1","gatewayid":"gw1","data":{"topic":"/a","payload_base64":"eA==","reason":"undecodable","detail":"no JSON"}}"#;
        let shown = r#"12:00:01 !! gw1/child1 rejected          topic=/a reason=undecodable detail="no JSON""#;
        assert_eq!(line(rejected, look), shown);
        let unread = r#"{"type":"org.jetlinks.bridge.command.failed","data":{"code":"PARAMETER_ERROR"}}"#;
        assert_eq!(line(unread, look), "12:00:01 !! -        command.failed    code=PARAMETER_ERROR");
    }

    #[test]
    fn an_event_is_named_and_nothing_of_a_device_is_obeyed_by_a_terminal() {
        let event = "{\"type\":\"org.jetlinks.device.event\",\"deviceid\":\"d\",\"subject\":\"\u{9b}31m\",\"data\":{\"data\":{\"\u{9d}a\":\"\u{202e}b\"}}}";
        assert_eq!(line(event, PLAIN), r#"12:00:01    d        event \u009b31m   \u009da="\u202eb""#);
        let forging =
            r#"{"type":"org.jetlinks.device.event","deviceid":"d","data":{"properties":{"a\n12:00:02 <- b":"c\nd"}}}"#;
        assert_eq!(line(forging, PLAIN), r#"12:00:01    d        event             a\u000a12:00:02 <- b="c\nd""#);
        assert!(Shown::of("no JSON").is_none());
    }
}
