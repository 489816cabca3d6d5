//! Envelopes as tools print and filter them.

use std::borrow::Cow;

use serde::Deserialize;

use super::output::one_line;
use crate::queue;

/// An envelope of either mode in one line of JSON. What a terminal would obey is escaped.
pub fn line(attributes: &[(String, String)], payload: &[u8]) -> String {
    one_line(&queue::envelope(attributes, payload))
}

/// Attributes of an envelope that `tail` filters by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// `org.jetlinks.device.properties.report`
    pub kind: String,
    /// The device that it is about; empty for a replica.
    pub device: String,
    /// Its gateway; empty without one.
    pub gateway: String,
    /// `REPORT_PROPERTY`; empty where the data has none.
    pub message_type: String,
}

#[derive(Deserialize)]
struct Structured<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    deviceid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    gatewayid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Data<'a> {
    #[serde(borrow, rename = "messageType")]
    message_type: Option<Cow<'a, str>>,
    success: Option<bool>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

impl Summary {
    /// Reads an envelope of either mode. `None`: it is none.
    pub fn of(attributes: &[(String, String)], payload: &[u8]) -> Option<Self> {
        let text = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned).unwrap_or_default();
        if attributes.is_empty() {
            let Structured { kind, deviceid, gatewayid, data } = serde_json::from_slice(payload).ok()?;
            let message_type = text(data.and_then(|data| data.message_type));
            return Some(Self { kind: text(kind), device: text(deviceid), gateway: text(gatewayid), message_type });
        }
        let attribute = |wanted: &str| {
            attributes.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let data = serde_json::from_slice::<Data<'_>>(payload).unwrap_or_default();
        let (kind, device, gateway) = (attribute("type"), attribute("deviceid"), attribute("gatewayid"));
        Some(Self { kind, device, gateway, message_type: text(data.message_type) })
    }
}

/// Why an outcome is a failure: its code and its text. `None`: it says success, or nothing about it.
pub fn failure(attributes: &[(String, String)], payload: &[u8]) -> Option<(String, String)> {
    let data: Data<'_> = if attributes.is_empty() {
        serde_json::from_slice::<Structured<'_>>(payload).ok()?.data?
    } else {
        serde_json::from_slice(payload).ok()?
    };
    let text = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned).unwrap_or_default();
    (data.success == Some(false)).then(|| (text(data.code), text(data.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: &str = r#"{"messageType":"REPORT_PROPERTY","properties":{"t":1.50}}"#;

    fn attributes() -> Vec<(String, String)> {
        [("deviceid", "device1"), ("subject", "a \"b\""), ("type", "org.jetlinks.device.properties.report")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec()
    }

    #[test]
    fn an_envelope_of_either_mode_is_one_object_with_its_digits() {
        let binary = line(&attributes(), DATA.as_bytes());
        let expected = format!(
            r#"{{"data":{DATA},"deviceid":"device1","subject":"a \"b\"","type":"org.jetlinks.device.properties.report"}}"#
        );
        assert_eq!(binary, expected);
        assert_eq!(line(&[], binary.as_bytes()), binary);
        assert!(line(&attributes(), b"no JSON").contains(r#""data":"no JSON""#));
        let hostile = "\"\u{9b}31m\u{202e}\"";
        for attributes in [vec![], attributes()] {
            assert!(line(&attributes, hostile.as_bytes()).contains(r#""\u009b31m\u202e""#));
        }
    }

    #[test]
    fn both_modes_are_summed_up_alike() {
        let binary = Summary::of(&attributes(), DATA.as_bytes()).unwrap();
        assert_eq!(binary.message_type, "REPORT_PROPERTY");
        let structured = line(&attributes(), DATA.as_bytes());
        assert_eq!(Summary::of(&[], structured.as_bytes()), Some(binary));
        assert_eq!(Summary::of(&[], b"no JSON"), None);
    }

    #[test]
    fn only_a_success_that_is_false_is_a_failure() {
        let failed = br#"{"data":{"success":false,"code":"TIME_OUT","message":"no reply"}}"#;
        assert_eq!(failure(&[], failed), Some(("TIME_OUT".to_owned(), "no reply".to_owned())));
        let binary = br#"{"success":false,"code":"E1"}"#;
        assert_eq!(failure(&attributes(), binary), Some(("E1".to_owned(), String::new())));
        for well in [&br#"{"data":{"success":true}}"#[..], br#"{"data":{}}"#, b"", b"x"] {
            assert_eq!(failure(&[], well), None);
        }
    }
}
