//! Sessions before CONNACK: their CONNECT is accepted, and their interest in commands is declared but not yet in place.

use std::collections::BTreeMap;
use std::task::{Poll, Waker};

use crate::codec::mqtt::Version;
use crate::protocol::command::{Command, CommandError};
use crate::protocol::downlink::Ticket;
use crate::protocol::id::DeviceId;
use crate::protocol::limit::{Limits, Load};
use crate::protocol::network::Network;
use crate::protocol::ulid::UlidGenerator;
use crate::protocol::uplink::SlotId;
use crate::session::identity::Identity;
use crate::session::mqtt::{Ending, StoredWill};
use crate::transport::room::{RoomPermit, SharedRoom};

/// A CONNECT of a device that has proved its identity.
#[derive(Clone)]
pub struct Connect {
    /// The device.
    pub device: DeviceId,
    /// Its record in the registry. The children in it become online and offline together with the device.
    pub identity: Identity,
    /// Protocol version.
    pub version: Version,
    /// Keep-alive in seconds.
    pub keep_alive_secs: u16,
    /// The will.
    pub will: Option<StoredWill>,
    /// Network of the client.
    pub network: Network,
    /// Address of the client.
    pub peer: Box<str>,
}

/// A command of the queue, or the error of one that cannot be read, with the ticket for its outcome.
pub(super) type EarlyCommand = (Option<Ticket>, Result<Command, CommandError>);

/// A session before CONNACK.
pub(super) struct StartingSession {
    pub(super) connect: Connect,
    /// Time of its acceptance, us of the worker's clock.
    pub(super) accepted_us: u64,
    /// ULID of the session.
    pub(super) id: Box<str>,
    /// Permit for the memory of a large will.
    pub(super) will_room: Option<RoomPermit>,
    /// Reason to end the session as soon as it has begun.
    pub(super) ending: Option<Ending>,
    /// Commands that arrived before CONNACK, as the interest is in place before it is sent.
    pub(super) commands: EarlyCommands,
    is_attached: bool,
    waker: Option<Waker>,
}

/// The sessions of a worker before CONNACK. Each takes less than 1 KiB, besides its will, its children and its commands.
pub(super) struct Starting {
    /// There are few at a time, so that a tree finds one sooner than a hash does.
    sessions: BTreeMap<SlotId, Box<StartingSession>>,
    ids: UlidGenerator,
    /// Memory for large wills. A will is held as long as its session, so wills get only half of
    /// [`Limits::buffered_bytes`].
    wills: SharedRoom,
}

impl Starting {
    /// An empty set; `seed` is the random seed of the session ids.
    pub(super) fn new(limits: &Limits, seed: u128) -> Self {
        Self {
            sessions: BTreeMap::new(),
            ids: UlidGenerator::new(seed),
            wills: SharedRoom::new(limits.buffered_bytes() / 2),
        }
    }

    /// The id of a new session.
    pub(super) fn next_id(&mut self, unix_ms: u64) -> Box<str> {
        self.ids.generate(unix_ms).to_string().into()
    }

    /// Takes memory for a large will of `bytes` bytes; `None` when too little is free.
    pub(super) fn take_will_room(&self, network: Network, bytes: usize) -> Option<RoomPermit> {
        self.wills.try_take(network, bytes)
    }

    /// Adds a session. Its commands are kept from now on, until [`Starting::take`].
    pub(super) fn add(
        &mut self,
        session: SlotId,
        (connect, accepted_us): (Connect, u64),
        id: Box<str>,
        will_room: Option<RoomPermit>,
    ) {
        let starting = StartingSession {
            connect,
            accepted_us,
            id,
            will_room,
            ending: None,
            commands: EarlyCommands::default(),
            is_attached: false,
            waker: None,
        };
        self.sessions.insert(session, Box::new(starting));
    }

    /// Notes that the session's interest in commands is in place.
    pub(super) fn note_attached(&mut self, session: SlotId) {
        // The session may have been taken out since its interest was declared.
        let Some(starting) = self.sessions.get_mut(&session) else { return };
        starting.is_attached = true;
        if let Some(waker) = starting.waker.take() {
            waker.wake();
        }
    }

    /// Polls whether the session's interest in commands is in place; if not, `waker` is woken when it is. Ready, too, for
    /// a session that is not here.
    pub(super) fn poll_attached(&mut self, session: SlotId, waker: &Waker) -> Poll<()> {
        match self.sessions.get_mut(&session) {
            Some(starting) if !starting.is_attached => {
                starting.waker = Some(waker.clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Sets the reason to end a session as soon as it has begun. Only the first reason counts.
    pub(super) fn end(&mut self, session: SlotId, ending: Ending) {
        if let Some(starting) = self.sessions.get_mut(&session) {
            starting.ending.get_or_insert(ending);
        }
    }

    /// The commands that are kept for a session.
    pub(super) fn commands(&mut self, session: SlotId) -> Option<&mut EarlyCommands> {
        self.sessions.get_mut(&session).map(|starting| &mut starting.commands)
    }

    /// Removes a session, which begins now or never.
    pub(super) fn take(&mut self, session: SlotId) -> Option<StartingSession> {
        self.sessions.remove(&session).map(|starting| *starting)
    }
}

/// Commands that arrived before CONNACK, with their payloads. Their number is limited by `commands.pending_per_device`,
/// their bytes by the limit for all commands of the worker.
#[derive(Debug, Default)]
pub(super) struct EarlyCommands {
    waiting: Vec<EarlyCommand>,
}

impl EarlyCommands {
    /// Keeps a command; returns it when a limit is reached.
    pub(super) fn push(&mut self, command: EarlyCommand, limits: &Limits, load: &mut Load) -> Option<EarlyCommand> {
        let bytes = held_bytes(&command);
        if self.waiting.len() >= limits.commands_per_device || !load.takes_command(bytes, limits) {
            return Some(command);
        }
        load.command_bytes += bytes;
        self.waiting.push(command);
        None
    }

    /// Returns all commands, and releases their bytes in `load`.
    pub(super) fn take(self, load: &mut Load) -> Vec<EarlyCommand> {
        load.release_command(self.waiting.iter().map(held_bytes).sum());
        self.waiting
    }
}

fn held_bytes((_, command): &EarlyCommand) -> usize {
    command.as_ref().map_or_else(CommandError::held_bytes, Command::held_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::id::ProductId;

    const LIMITS: Limits = Limits {
        packet_bytes: 0,
        inflight_per_connection: 0,
        inflight_bytes: 8 * 10_000,
        ack_timeout_us: 0,
        keep_alive_max_us: 0,
        command_timeout_ms: 0,
        command_timeout_max_ms: 0,
        commands_per_device: 3,
        commands: 0,
    };

    const SESSION: SlotId = SlotId { index: 7, generation: 1 };

    fn connect() -> Connect {
        Connect {
            device: DeviceId::new("device1").expect("a valid id"),
            identity: Identity {
                product: ProductId::new("product1").expect("a valid id"),
                secure_id: "".into(),
                secure_key: "".into(),
                enabled: true,
                children: [].into(),
            },
            version: Version::V311,
            keep_alive_secs: 60,
            will: None,
            network: Network::of([10, 0, 0, 1].into()),
            peer: "10.0.0.1:40000".into(),
        }
    }

    fn command(bytes: usize) -> EarlyCommand {
        (Some(Ticket(1)), Command::from_subject("product1.device1.direct", &vec![b'x'; bytes]))
    }

    #[test]
    fn a_session_waits_until_its_interest_is_in_place_and_no_longer_when_it_is_gone() {
        let mut starting = Starting::new(&LIMITS, 7);
        let later = SlotId { generation: 2, ..SESSION };
        starting.add(SESSION, (connect(), 0), "01J".into(), None);
        assert!(starting.poll_attached(SESSION, Waker::noop()).is_pending());
        starting.note_attached(later);
        assert!(starting.poll_attached(SESSION, Waker::noop()).is_pending(), "that was another session's");
        starting.note_attached(SESSION);
        assert!(starting.poll_attached(SESSION, Waker::noop()).is_ready());
        assert!(starting.take(SESSION).is_some() && starting.take(SESSION).is_none());
        assert!(starting.poll_attached(SESSION, Waker::noop()).is_ready());
        assert!(starting.commands(SESSION).is_none());
    }

    #[test]
    fn a_session_ends_for_the_first_reason_that_was_set_before_it_began() {
        let mut starting = Starting::new(&LIMITS, 7);
        starting.end(SESSION, Ending::Kicked);
        starting.add(SESSION, (connect(), 0), "01J".into(), None);
        starting.end(SESSION, Ending::TakenOver);
        starting.end(SESSION, Ending::Kicked);
        assert_eq!(starting.take(SESSION).and_then(|session| session.ending), Some(Ending::TakenOver));
    }

    #[test]
    fn ids_of_sessions_rise_and_large_wills_find_no_more_room_than_there_is() {
        let mut starting = Starting::new(&LIMITS, 7);
        let (first, second) = (starting.next_id(1_000), starting.next_id(1_000));
        assert!(first < second && second < starting.next_id(2_000));
        let room = LIMITS.buffered_bytes() / 2;
        let network = |number| Network::of([10, 0, 0, number].into());
        assert!(starting.take_will_room(network(1), room + 1).is_none());
        let taken = starting.take_will_room(network(1), room / 3).expect("there is room");
        assert!(starting.take_will_room(network(2), room).is_none());
        drop(taken);
        assert!(starting.take_will_room(network(2), room).is_some());
    }

    #[test]
    fn commands_before_their_session_are_bounded_in_number_and_bytes_and_give_back_what_they_took() {
        let mut load = Load::default();
        let mut early = EarlyCommands::default();
        assert!(early.push(command(8_000), &LIMITS, &mut load).is_none());
        assert!(load.command_bytes > 8_000);
        assert!(early.push(command(8_000), &LIMITS, &mut load).is_some(), "more bytes than commands may keep");
        let unreadable = (None, Err(CommandError::unreadable("x".repeat(8_000))));
        assert!(early.push(unreadable, &LIMITS, &mut load).is_some(), "as above");
        assert!(early.push(command(1), &LIMITS, &mut load).is_none());
        assert!(early.push(command(1), &LIMITS, &mut load).is_none());
        assert!(early.push(command(1), &LIMITS, &mut load).is_some(), "more than a device may have waiting");
        assert_eq!((early.take(&mut load).len(), load.command_bytes), (3, 0));
    }
}
