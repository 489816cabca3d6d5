//! One record of the topic of commands.

use bytes::Bytes;
use rdkafka::message::{Headers, Message};

use crate::protocol::command::{Command, CommandError, with_headers};

/// Of offsets that are less than this apart no two give the same message id.
const OFFSETS: u64 = 100_000_000_000;

/// Of partitions below this no two do. One more than that, with [`OFFSETS`], is 15 decimal digits.
const PARTITIONS: u64 = 9_999;

/// A record, taken out of the client's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandRecord {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// When it was written, ms since 1970, as its writer or its broker says.
    pub(super) written_ms: Option<i64>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Bytes,
    /// Header `correlation-id`.
    correlation_id: Option<String>,
    /// Header `traceparent`.
    traceparent: Option<String>,
}

impl CommandRecord {
    /// Copies a record.
    pub(super) fn of(message: &impl Message) -> Self {
        let header = |name: &str| {
            let headers = message.headers()?;
            let value = headers.iter().filter(|header| header.key == name).last()?.value?;
            std::str::from_utf8(value).ok().map(str::to_owned)
        };
        Self {
            partition: message.partition(),
            offset: message.offset(),
            written_ms: message.timestamp().to_millis(),
            key: message.key().map(Bytes::copy_from_slice),
            value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
            correlation_id: header("correlation-id"),
            traceparent: header("traceparent"),
        }
    }

    /// The command, which always has a message id: a record that is read twice must not become two commands.
    pub(super) fn command(&self) -> Result<Command, CommandError> {
        let header = |name: &str| match name {
            "correlation-id" => self.correlation_id.as_deref(),
            "traceparent" => self.traceparent.as_deref(),
            _ => None,
        };
        let mut command = with_headers(Command::from_json(&self.value), header);
        match &mut command {
            Ok(command) => drop(command.message_id.get_or_insert_with(|| self.message_id())),
            Err(CommandError::Parameter(identity, _) | CommandError::Unsupported(identity, _)) => {
                identity.message_id.get_or_insert_with(|| self.message_id());
            }
            Err(CommandError::Unreadable(command)) => command.record = Some((self.partition, self.offset)),
        }
        command
    }

    /// Its age at this moment; `None`: it has no time. One from a clock that is ahead has the age 0.
    pub(super) fn age_ms(&self, now_ms: u64) -> Option<u64> {
        let written_ms = self.written_ms.and_then(|written_ms| u64::try_from(written_ms).ok())?;
        Some(now_ms.saturating_sub(written_ms))
    }

    /// A message id from partition and offset: at most 15 decimal digits, as a device may keep it in a double.
    fn message_id(&self) -> String {
        let partition = u64::from(self.partition.unsigned_abs()) % PARTITIONS;
        ((partition + 1) * OFFSETS + self.offset.unsigned_abs() % OFFSETS).to_string()
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

    use super::*;
    use crate::protocol::trace::TraceContext;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    const READ: &str = r#""messageType":"READ_PROPERTY","productId":"product1","deviceId":"device1""#;

    fn record(value: &str, headers: Option<OwnedHeaders>) -> CommandRecord {
        let (topic, timestamp) = ("jetlinks.command".to_owned(), Timestamp::CreateTime(1000));
        CommandRecord::of(&OwnedMessage::new(
            Some(value.into()),
            Some(b"device1".to_vec()),
            topic,
            timestamp,
            3,
            17,
            headers,
        ))
    }

    #[test]
    fn a_message_id_is_derived_from_the_place_where_the_caller_gave_none() {
        let id = |members: &str| record(&format!("{{{READ}{members}}}"), None).command().expect("a command").message_id;
        assert_eq!(id("").as_deref(), Some("400000000017"));
        assert_eq!(id(r#","messageId":"m1""#).as_deref(), Some("m1"));
        let wrong = record(&format!("{{{READ},\"properties\":7}}"), None).command();
        let Err(CommandError::Parameter(identity, _)) = wrong else { panic!("{wrong:?}") };
        assert_eq!(identity.message_id.as_deref(), Some("400000000017"));
        let last = CommandRecord { partition: i32::MAX, offset: i64::MAX, ..record("", None) }.message_id();
        assert!(last.len() <= 15, "{last}");
        let last = CommandRecord { partition: 9_998, offset: 99_999_999_999, ..record("", None) }.message_id();
        assert_eq!(last, "999999999999999");
        let next = CommandRecord { partition: 9_999, offset: 100_000_000_005, ..record("", None) }.message_id();
        assert_eq!(next, "100000000005");
    }

    #[test]
    fn headers_of_the_record_win_over_those_of_the_json() {
        let header = |key, value| Header { key, value: Some(value) };
        let headers = OwnedHeaders::new().insert(header("correlation-id", "c1")).insert(header("traceparent", TRACE));
        let other = TRACE.replace("b7ad6b7169203331", "00f067aa0ba902b7");
        let value = format!(r#"{{{READ},"headers":{{"correlation-id":"c0","traceparent":"{other}"}}}}"#);
        let command = record(&value, Some(headers)).command().expect("a command");
        assert_eq!((command.correlation_id.as_deref(), command.trace), (Some("c1"), TraceContext::parse(TRACE)));
        let command = record(&value, None).command().expect("a command");
        assert_eq!((command.correlation_id.as_deref(), command.trace), (Some("c0"), TraceContext::parse(&other)));
    }

    #[test]
    fn a_record_that_is_no_command_keeps_what_its_headers_say_of_the_caller() {
        let header = |key, value| Header { key, value: Some(value) };
        let headers = OwnedHeaders::new().insert(header("correlation-id", "c1")).insert(header("traceparent", TRACE));
        let no_product = r#"{"messageId":"m1","headers":{"correlation-id":"c0"}}"#.to_owned();
        for value in ["no command".to_owned(), format!("{{{READ},\"properties\":7}}"), no_product.clone()] {
            let mut error = record(&value, Some(headers.clone())).command().expect_err("no command");
            assert_eq!(*error.trace_mut(), TraceContext::parse(TRACE), "{value}");
            assert_eq!(error.correlation_id_mut().as_deref(), Some("c1"), "{value}");
        }
        let Err(CommandError::Unreadable(command)) = record(&no_product, None).command() else { panic!("no product") };
        assert_eq!((command.correlation(), command.message_id.as_deref()), ("c0", Some("m1")));
        assert_eq!(command.record, Some((3, 17)));
    }

    #[test]
    fn age_counts_from_the_time_of_the_record() {
        let record = record("{}", None);
        assert_eq!(record.age_ms(1501), Some(501));
        assert_eq!(record.age_ms(10), Some(0), "a clock that is ahead");
        assert_eq!(CommandRecord { written_ms: None, ..record }.age_ms(u64::MAX), None);
    }
}
