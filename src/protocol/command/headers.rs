//! Headers of a command.

use super::{Command, CommandBody, CommandError};
use crate::protocol::json::whole_text_i64;
use crate::protocol::message::{FieldType, boolean_text};
use crate::protocol::trace::TraceContext;

/// Longest `messageId` and header `correlation-id` of a caller in bytes, as a command that waits keeps both.
pub const CALLER_ID_BYTES_MAX: usize = 128;

/// Reads a caller's `messageId` or `correlation-id`; empty counts as absent.
pub(super) fn caller_id(name: &str, text: &str) -> Result<Option<String>, String> {
    if text.len() > CALLER_ID_BYTES_MAX {
        return Err(format!("{name} has more than {CALLER_ID_BYTES_MAX} bytes"));
    }
    Ok(Some(text).filter(|text| !text.is_empty()).map(str::to_owned))
}

/// Checks a header `timeout`, ms. Its upper bound is a matter of the configuration.
pub(super) fn timeout_ms(timeout: i64) -> Result<u64, String> {
    u64::try_from(timeout).ok().filter(|ms| *ms > 0).ok_or_else(|| "header timeout is less than 1 ms".to_owned())
}

/// Headers of a command's body, with their types; others go to the device as they are.
pub const BODY_HEADERS: [(&str, FieldType); 5] = [
    ("timeout", FieldType::Number),
    ("async", FieldType::Bool),
    ("sendAndForget", FieldType::Bool),
    ("correlation-id", FieldType::Text),
    ("traceparent", FieldType::Text),
];

/// Every header that a command is read by.
pub const HEADERS: [&str; 6] = ["correlation-id", "traceparent", "messageId", "timeout", "async", "sendAndForget"];

/// Applies the headers of the NATS message or Kafka record that carries a command: `correlation-id` and `traceparent`
/// override those of the body, which tracing libraries do not see.
///
/// # Errors
/// The error that `command` is; [`CommandError::Parameter`] for a header that holds what it cannot hold.
pub fn with_headers<'a>(
    command: Result<Command, CommandError>,
    header: impl Fn(&str) -> Option<&'a str>,
) -> Result<Command, CommandError> {
    let trace = header("traceparent").and_then(TraceContext::parse);
    let correlation_id = header("correlation-id").map(|text| caller_id("header correlation-id", text)).transpose();
    match command {
        Ok(mut command) => {
            command.trace = trace.or(command.trace);
            match correlation_id {
                Ok(id) => command.correlation_id = id.flatten().or(command.correlation_id),
                Err(text) => return Err(command.refused(text)),
            }
            Ok(command)
        }
        Err(mut error) => {
            let own_trace = error.trace_mut();
            *own_trace = trace.or(*own_trace);
            if let Ok(Some(Some(correlation_id))) = correlation_id {
                *error.correlation_id_mut() = Some(correlation_id);
            }
            Err(error)
        }
    }
}

/// Applies the headers of the NATS message that stand in for fields, where raw bytes have no place for any:
/// `messageId`, `timeout`, `async` and `sendAndForget`. Other commands say these in their JSON.
///
/// # Errors
/// As [`with_headers`].
pub fn with_fields_of_raw<'a>(
    command: Result<Command, CommandError>,
    header: impl Fn(&str) -> Option<&'a str>,
) -> Result<Command, CommandError> {
    let mut command = command?;
    if !matches!(command.body, CommandBody::Raw(_)) {
        return Ok(command);
    }
    let flag = |name: &str| match header(name) {
        Some(text) => boolean_text(text).ok_or_else(|| format!("header {name} is not a boolean")),
        None => Ok(false),
    };
    let timeout = |text: &str| match whole_text_i64(text) {
        Some(timeout) => timeout_ms(timeout),
        None => Err("header timeout is not a whole number of 64 bits".to_owned()),
    };
    // All are read before the first that is wrong is told, so that its outcome has the id.
    let read = [
        header("messageId")
            .map_or(Ok(None), |text| caller_id("header messageId", text))
            .map(|id| command.message_id = id),
        header("timeout").map(timeout).transpose().map(|ms| command.timeout_ms = ms),
        flag("async").map(|is_async| command.is_async = is_async),
        flag("sendAndForget").map(|send_and_forget| command.send_and_forget = send_and_forget),
    ];
    match read.into_iter().collect::<Result<(), String>>() {
        Ok(()) => Ok(command),
        Err(text) => Err(command.refused(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn header<'a>(headers: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<&'a str> {
        |name| headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }

    fn direct(headers: &[(&str, &str)]) -> Result<Command, CommandError> {
        with_fields_of_raw(Command::from_subject("product1.device1.direct", b"\x00\x01"), header(headers))
    }

    #[test]
    fn raw_bytes_have_their_message_id_and_timeout_beside_them() {
        let raw = direct(&[("messageId", "m1"), ("timeout", "1500"), ("sendAndForget", "1"), ("async", "FALSE")]);
        let raw = raw.expect("a command");
        assert_eq!((raw.message_id.as_deref(), raw.timeout_ms), (Some("m1"), Some(1500)));
        assert!(raw.send_and_forget && !raw.is_async);
        let bare = direct(&[("messageId", "")]).expect("a command");
        assert_eq!((bare.message_id, bare.timeout_ms, bare.is_async), (None, None, false));
        let read = Command::from_subject("product1.device1.properties.read", br#"{"messageId":"m0"}"#);
        let read = with_fields_of_raw(read, header(&[("messageId", "m1"), ("timeout", "soon")]));
        assert_eq!(read.expect("a command").message_id.as_deref(), Some("m0"), "JSON speaks for itself");
    }

    #[test]
    fn a_header_that_holds_what_it_cannot_hold_is_a_parameter_error_that_keeps_the_message_id() {
        let long = "x".repeat(CALLER_ID_BYTES_MAX + 1);
        for (name, value, expected) in [
            ("timeout", "0", "header timeout is less than 1 ms"),
            ("timeout", "-1", "header timeout is less than 1 ms"),
            ("timeout", "soon", "header timeout is not a whole number of 64 bits"),
            ("timeout", "1.5", "header timeout is not a whole number of 64 bits"),
            ("timeout", "99999999999999999999", "header timeout is not a whole number of 64 bits"),
            ("async", "yes", "header async is not a boolean"),
            ("sendAndForget", "maybe", "header sendAndForget is not a boolean"),
        ] {
            let Err(CommandError::Parameter(identity, text)) = direct(&[(name, value), ("messageId", "m1")]) else {
                panic!("{name} {value}")
            };
            assert_eq!((text.as_str(), identity.message_id.as_deref()), (expected, Some("m1")));
        }
        let Err(CommandError::Parameter(identity, text)) = direct(&[("messageId", &long)]) else { panic!("too long") };
        assert_eq!((text.as_str(), identity.message_id), ("header messageId has more than 128 bytes", None));
        assert!(direct(&[("messageId", &long[1..])]).is_ok());
    }

    #[test]
    fn headers_beside_a_command_win_over_those_in_it_and_reach_what_is_refused_too() {
        let other = TRACE.replace("b7ad6b7169203331", "00f067aa0ba902b7");
        let body = format!(r#"{{"headers":{{"correlation-id":"c0","traceparent":"{other}"}}}}"#);
        let read = || Command::from_subject("product1.device1.properties.read", body.as_bytes());
        let command = with_headers(read(), header(&[("correlation-id", "c1"), ("traceparent", TRACE)]));
        let command = command.expect("a command");
        assert_eq!((command.correlation_id.as_deref(), command.trace), (Some("c1"), TraceContext::parse(TRACE)));
        let command = with_headers(read(), header(&[("correlation-id", ""), ("traceparent", "x")])).expect("a command");
        assert_eq!((command.correlation_id.as_deref(), command.trace), (Some("c0"), TraceContext::parse(&other)));
        for refused in [
            Command::from_subject("product1.device1.event.e", body.as_bytes()),
            Command::from_subject("product1.device1.properties.read", b"["),
            Command::from_subject("product1.device1.properties.read", br#"{"properties":1}"#),
        ] {
            let mut error = with_headers(refused, header(&[("correlation-id", "c1"), ("traceparent", TRACE)]))
                .expect_err("a refusal");
            assert_eq!(error.correlation_id_mut().as_deref(), Some("c1"));
            assert_eq!(*error.trace_mut(), TraceContext::parse(TRACE));
        }
    }

    #[test]
    fn a_correlation_id_over_128_bytes_is_a_parameter_error_and_is_not_kept() {
        let long = "x".repeat(CALLER_ID_BYTES_MAX + 1);
        let read = || Command::from_subject("product1.device1.properties.read", br#"{"messageId":"m1"}"#);
        let refused = with_headers(read(), header(&[("correlation-id", &long)]));
        let Err(CommandError::Parameter(identity, text)) = refused else { panic!("{refused:?}") };
        assert_eq!(text, "header correlation-id has more than 128 bytes");
        assert_eq!((identity.correlation(), identity.about()), ("m1", "device1"));
        assert!(with_headers(read(), header(&[("correlation-id", &long[1..])])).is_ok());
        let unreadable = Command::from_subject("product1.device1.properties.read", b"[");
        let mut error = with_headers(unreadable, header(&[("correlation-id", &long)])).expect_err("a refusal");
        assert_eq!(*error.correlation_id_mut(), None);
    }
}
