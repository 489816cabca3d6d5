//! `send`: a command to a device, and its outcome.

mod args;
mod command_input;

pub(super) use self::args::{parse_address, parse_type};
pub(super) use self::command_input::CommandInput;

use std::io;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

pub use args::{DeviceAddress, SendArgs};

use super::check::EXIT_CONFIGURATION;
use super::input::{configuration, text_or_file};
use super::lookup::CONNECTION_NAME;
use super::{block_on, envelope, output};
use crate::app::settings;
use crate::config::{CommandQueue, Config, Sources};
use crate::queue::kafka::KafkaCaller;
use crate::queue::nats::NatsCaller;
use crate::queue::{Answer, CallError};

/// How much longer the outcome is waited for than the bridge waits for the device.
const MARGIN: Duration = Duration::from_secs(2);

/// Why a command was not sent, or has no outcome.
#[derive(Debug, thiserror::Error)]
enum SendError {
    /// `commands.queue` is nothing that a command can be sent through.
    #[error("commands.queue is {0:?}; a command can be sent through \"nats\" and \"kafka\"")]
    Queue(&'static str),
    /// The command cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The bridge would not take it.
    #[error("{0}")]
    Command(String),
    /// No outcome.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Sends the command and prints the envelope of its outcome to `out`. Exit code 0 when that says success, 78 when the
/// configuration has mistakes or names no queue of commands, else 1.
pub fn run(args: &SendArgs, sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let Some(config) = configuration(sources, err) else { return ExitCode::from(EXIT_CONFIGURATION) };
    match send(args, &config) {
        Ok(answer) => {
            // Nobody is left to tell when stdout is closed; an outcome of the bridge that was too large has no envelope.
            if !answer.payload.is_empty() {
                let _ = writeln!(out, "{}", envelope::line(&answer.attributes, &answer.payload));
            }
            let failure = answer.failure.or_else(|| envelope::failure(&answer.attributes, &answer.payload));
            let Some((code, text)) = failure else { return ExitCode::SUCCESS };
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(err, "send: {}", output::one_line(&format!("{code}: {text}")));
            ExitCode::FAILURE
        }
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(err, "send: {error}");
            let is_configuration = matches!(error, SendError::Queue(_) | SendError::Call(CallError::Settings(_)));
            if is_configuration { ExitCode::from(EXIT_CONFIGURATION) } else { ExitCode::FAILURE }
        }
    }
}

fn send(args: &SendArgs, config: &Config) -> Result<Answer, SendError> {
    match config.commands.queue {
        CommandQueue::Nats | CommandQueue::Kafka => {}
        CommandQueue::None => return Err(SendError::Queue("none")),
        CommandQueue::Stdio => return Err(SendError::Queue("stdio")),
    }
    let text = args.command.as_deref().map(text_or_file).transpose().map_err(SendError::Io)?.unwrap_or_default();
    let mut input = CommandInput::new(&text, args.device.clone().zip(args.message_type)).map_err(SendError::Command)?;
    if let Some(timeout) = args.timeout {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        input.set_header("timeout", &timeout_ms.into()).map_err(SendError::Command)?;
    }
    block_on(call(input, args.timeout, config)).map_err(SendError::Io)?
}

async fn call(mut input: CommandInput, timeout: Option<Duration>, config: &Config) -> Result<Answer, SendError> {
    let command = input.command().map_err(SendError::Command)?;
    let own = timeout.or_else(|| command.timeout_ms.map(Duration::from_millis));
    let answer_timeout = own.unwrap_or(config.commands.timeout).saturating_add(MARGIN);
    if config.commands.queue == CommandQueue::Nats {
        let caller = NatsCaller::connect(&settings::nats(config, CONNECTION_NAME)).await?;
        let (subject, payload) = input.request(&command);
        return Ok(caller.call(&subject, &[], payload.into(), answer_timeout).await?);
    }
    let settings = settings::kafka(config, CONNECTION_NAME)
        .ok_or_else(|| CallError::Settings("kafka.brokers is not set".to_owned()))?;
    // Its own, so that no outcome of another command is taken for this one's.
    let random = (getrandom::u64(), getrandom::u64());
    let (Ok(high), Ok(low)) = random else {
        return Err(SendError::Io(io::Error::other("the system gives no random number")));
    };
    let correlation_id = command.correlation_id.clone().unwrap_or_else(|| format!("{high:016x}{low:016x}"));
    input.set_header("correlation-id", &correlation_id.as_str().into()).map_err(SendError::Command)?;
    let (key, value) = input.record(&command).map_err(SendError::Command)?;
    let mut caller = KafkaCaller::open(&settings, &config.kafka.command_topic, &config.kafka.reply_topic)?;
    Ok(caller.call(&key, &value, &correlation_id, answer_timeout).await?)
}
