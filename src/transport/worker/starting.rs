//! Sessions that are about to begin: their CONNECT is accepted, and their interest in commands is on its way.

use std::collections::HashMap;
use std::task::{Poll, Waker};

use crate::codec::mqtt::Version;
use crate::protocol::command::{Command, CommandError};
use crate::protocol::downlink::Ticket;
use crate::protocol::id::DeviceId;
use crate::protocol::limit::{Limits, Load};
use crate::protocol::network::Network;
use crate::protocol::ulid::UlidGenerator;
use crate::protocol::uplink::DeliveryId;
use crate::session::mqtt::{Ending, StoredWill};
use crate::transport::room::{RoomPermit, SharedRoom};
use crate::transport::traits::Identity;

/// A CONNECT of a device that has proved its identity.
#[derive(Clone)]
pub struct Connect {
    /// The device.
    pub device: DeviceId,
    /// Its record in the registry; its children are those that come and go with it.
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

/// One command, as it came from the queue.
pub(super) type EarlyCommand = (Option<Ticket>, Result<Command, CommandError>);

/// A session that is about to begin.
pub(super) struct StartingSession {
    pub(super) connect: Connect,
    /// When it was accepted, us of the worker's clock.
    pub(super) accepted_us: u64,
    /// ULID of the session.
    pub(super) id: Box<str>,
    /// The permit of a large will.
    pub(super) will_room: Option<RoomPermit>,
    /// Set when the session has to end as soon as it has begun.
    pub(super) ending: Option<Ending>,
    /// Commands that came already: the device has its interest in them before it knows that it is connected.
    pub(super) commands: EarlyCommands,
    is_attached: bool,
    waker: Option<Waker>,
}

/// See the module. Less than 1 KiB a session besides its will, its children and its commands.
pub(super) struct Starting {
    sessions: HashMap<DeliveryId, StartingSession>,
    ids: UlidGenerator,
    /// Room for wills that are larger than usual. They stay, so they get half of what else comes and goes.
    wills: SharedRoom,
}

impl Starting {
    /// None yet; `seed` is random.
    pub(super) fn new(limits: &Limits, seed: u128) -> Self {
        Self {
            sessions: HashMap::new(),
            ids: UlidGenerator::new(seed),
            wills: SharedRoom::new(limits.buffered_bytes() / 2),
        }
    }

    /// The id of a new session.
    pub(super) fn next_id(&mut self, unix_ms: u64) -> Box<str> {
        self.ids.generate(unix_ms).to_string().into()
    }

    /// Room for a large will of so many bytes; `None`: there is none.
    pub(super) fn take_will_room(&self, network: Network, bytes: usize) -> Option<RoomPermit> {
        self.wills.try_take(network, bytes)
    }

    /// Adds a session. Its commands are kept from now on.
    pub(super) fn add(
        &mut self,
        session: DeliveryId,
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
        self.sessions.insert(session, starting);
    }

    /// Notes that the session's interest in commands is in place.
    pub(super) fn note_attached(&mut self, session: DeliveryId) {
        // The CONNECT may have been given up.
        let Some(starting) = self.sessions.get_mut(&session) else { return };
        starting.is_attached = true;
        if let Some(waker) = starting.waker.take() {
            waker.wake();
        }
    }

    /// Whether the session's interest in commands is in place; if not, the waker is told when it is.
    pub(super) fn poll_attached(&mut self, session: DeliveryId, waker: &Waker) -> Poll<()> {
        match self.sessions.get_mut(&session) {
            Some(starting) if !starting.is_attached => {
                starting.waker = Some(waker.clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Lets a session end as soon as it has begun; the first ending counts.
    pub(super) fn end(&mut self, session: DeliveryId, ending: Ending) {
        if let Some(starting) = self.sessions.get_mut(&session) {
            starting.ending.get_or_insert(ending);
        }
    }

    /// The commands of a session that is about to begin.
    pub(super) fn commands(&mut self, session: DeliveryId) -> Option<&mut EarlyCommands> {
        self.sessions.get_mut(&session).map(|starting| &mut starting.commands)
    }

    /// Takes a session out: it begins, or never will.
    pub(super) fn take(&mut self, session: DeliveryId) -> Option<StartingSession> {
        self.sessions.remove(&session)
    }
}

/// The commands of a session that is about to begin. At most `commands.pending_per_device`, and within the bytes that all
/// commands of the worker may keep: these are kept whole.
#[derive(Debug, Default)]
pub(super) struct EarlyCommands {
    waiting: Vec<EarlyCommand>,
}

impl EarlyCommands {
    /// Keeps a command; gives it back where there is no room.
    pub(super) fn push(&mut self, command: EarlyCommand, limits: &Limits, load: &mut Load) -> Option<EarlyCommand> {
        let bytes = held_bytes(&command);
        if self.waiting.len() >= limits.commands_per_device || !load.takes_command(bytes, limits) {
            return Some(command);
        }
        load.command_bytes += bytes;
        self.waiting.push(command);
        None
    }

    /// Takes all out.
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

    const SESSION: DeliveryId = DeliveryId { slot: 7, generation: 1, sequence: 0 };

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
        let later = DeliveryId { generation: 2, ..SESSION };
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
    fn a_session_ends_for_the_first_reason_that_came_before_it_began() {
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
