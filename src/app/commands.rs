//! Commands of operators: to the worker that holds the device, or by a NATS request to the replica that does.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::sessions::ReplicaSessions;
use super::settings;
use crate::config::{CommandQueue, Config};
use crate::protocol::command::Command;
use crate::protocol::downlink::{DownlinkEvent, Recipient};
use crate::protocol::id::DeviceId;
use crate::queue::nats::{NatsCaller, NatsSettings};
use crate::queue::{Answer, CALLS_MAX, CallError, Calls};
use crate::replica::HandOverRequest;
use crate::replica::request::Selection;
use crate::telemetry::admin::{CommandRefusal, Commands, Replicas, SentCommand, SessionQuery, Sessions as _};

/// How much longer the outcome is waited for than the device.
const MARGIN: Duration = Duration::from_secs(2);

/// How long a NATS server may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);

/// The way of commands of operators.
pub struct ReplicaCommands {
    sessions: ReplicaSessions,
    workers: Vec<mpsc::Sender<DownlinkEvent>>,
    calls: Calls,
    queue: CommandQueue,
    timeout: Duration,
    /// How other replicas get commands; `None`: not by NATS.
    others: Option<NatsSettings>,
    /// Commands for devices of other replicas that may be under way.
    room: Arc<Semaphore>,
}

impl ReplicaCommands {
    /// Commands to the devices of these workers, and to those of other replicas if commands come over NATS.
    pub fn new(
        config: &Config,
        sessions: ReplicaSessions,
        workers: Vec<mpsc::Sender<DownlinkEvent>>,
        calls: Calls,
    ) -> Self {
        // Sessions have their interests on NATS then.
        let is_on_nats = match config.commands.queue {
            CommandQueue::Nats => true,
            CommandQueue::Kafka => config.has_nats_servers(),
            CommandQueue::None | CommandQueue::Stdio => false,
        };
        Self {
            others: is_on_nats.then(|| settings::nats(config, &sessions.local.replica_id)),
            sessions,
            workers,
            calls,
            queue: config.commands.queue,
            timeout: config.commands.timeout,
            room: Arc::new(Semaphore::new(CALLS_MAX)),
        }
    }

    fn send_here(
        &self,
        device: DeviceId,
        worker: &mpsc::Sender<DownlinkEvent>,
        command: Command,
        longest: Duration,
    ) -> Result<SentCommand, CommandRefusal> {
        let place = worker.try_reserve().map_err(|_| CommandRefusal::Busy)?;
        let (ticket, outcome) = self.calls.begin().ok_or(CommandRefusal::Busy)?;
        place.send(DownlinkEvent::Command {
            to: Recipient::Device(device),
            ticket: Some(ticket),
            command: Ok(command),
        });
        let outcome = async move {
            let unanswered = |cause: &str| CommandRefusal::Unanswered(cause.to_owned());
            let outcome = timeout(longest, outcome).await.map_err(|_| unanswered("no outcome in time"))?;
            let outcome = outcome.map_err(|_| unanswered("the replica is ending"))?;
            let attributes = outcome.attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Ok(Answer { payload: outcome.payload, attributes, failure: None }.envelope())
        };
        Ok(SentCommand { longest, outcome: Box::pin(outcome) })
    }

    fn send_over_nats(
        &self,
        settings: &NatsSettings,
        value: &Bytes,
        command: &Command,
        longest: Duration,
    ) -> Result<SentCommand, CommandRefusal> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| CommandRefusal::Busy)?;
        let request = HandOverRequest::new(0, command, value, Instant::now() + longest);
        let (settings, device) = (settings.clone(), command.device.clone());
        let outcome = async move {
            let _permit = permit;
            let call = async {
                let caller = NatsCaller::connect(&settings).await?;
                caller.call(&request.address, &request.headers, request.payload, longest).await
            };
            match call.await {
                Ok(Answer { payload, failure: Some((code, text)), .. }) if payload.is_empty() => {
                    Err(CommandRefusal::Unanswered(format!("{code}: {text}")))
                }
                Ok(answer) => Ok(answer.envelope()),
                Err(CallError::NoResponders) => Err(CommandRefusal::Offline(format!(
                    "no replica has a session of {device}: commands are not kept for later"
                ))),
                Err(CallError::TimedOut) => Err(CommandRefusal::Unanswered(
                    "no outcome in time; the device may have got the command, unless the bridge's user on NATS may not \
                     publish commands"
                        .to_owned(),
                )),
                Err(error) => Err(CommandRefusal::Unanswered(error.to_string())),
            }
        };
        Ok(SentCommand { longest: longest + CONNECT, outcome: Box::pin(outcome) })
    }

    /// A refusal that names the replica that has the device, where one has it.
    fn look_elsewhere(&self, device: String) -> SentCommand {
        let sessions = self.sessions.clone();
        let outcome = async move {
            let selection = Selection { limit: 1, prefix: Some(device.clone()), ..Selection::default() };
            let page = sessions.list(SessionQuery { replicas: Replicas::All, offset: 0, selection }).await;
            let found = page.and_then(|page| page.sessions.into_iter().find(|session| session.device_id == device));
            Err(CommandRefusal::Offline(match found {
                None => format!("no replica has a session of {device}"),
                Some(session) => format!(
                    "replica {} has the session of {device}, and commands do not come over NATS: ask that one",
                    session.replica_id
                ),
            }))
        };
        SentCommand { longest: CONNECT, outcome: Box::pin(outcome) }
    }
}

impl Commands for ReplicaCommands {
    fn send(&self, value: Bytes) -> Result<SentCommand, CommandRefusal> {
        if self.queue == CommandQueue::None {
            return Err(CommandRefusal::NoCommands);
        }
        let command = Command::from_json(&value).map_err(|error| CommandRefusal::Invalid(error.text().to_owned()))?;
        tracing::info!(
            device = command.device,
            about = command.about(),
            kind = command.message_type.name(),
            "an operator sends a command"
        );
        let longest = command.timeout_ms.map_or(self.timeout, Duration::from_millis).saturating_add(MARGIN);
        let device = DeviceId::new(&command.device).ok();
        let holder = device.and_then(|device| {
            let worker = self.workers.get(self.sessions.local.directory.find(device.as_str())?.worker)?;
            Some((device, worker))
        });
        match (holder, &self.others) {
            (Some((device, worker)), _) => self.send_here(device, worker, command, longest),
            (None, Some(settings)) => self.send_over_nats(settings, &value, &command, longest),
            (None, None) => Ok(self.look_elsewhere(command.device)),
        }
    }
}
