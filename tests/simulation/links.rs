//! The connections of replicas to the queue and to the server, and those of devices to replicas.

use jetlinks_bridge::protocol::command::Command;
use jetlinks_bridge::protocol::downlink::{DownlinkEvent, Recipient};
use jetlinks_bridge::protocol::uplink::{Availability, Receipt, Record};
use jetlinks_bridge::replica::claim::{Claim, ClaimKind};

use crate::callers::Request;
use crate::device::{CHILD, Deed, GATEWAY, PRODUCT};
use crate::event::{Event, News};
use crate::faults::Kind;
use crate::mark::{Mark, attribute};
use crate::node::{At, START_MS};
use crate::replica::Said;
use crate::schedule::{MS, S};
use crate::uplink::StoreResult;
use crate::violation::Violation;
use crate::wire::{Arrival, Direction, Wire};
use crate::world::{Mistake, World};

/// Records in a record queue below which the queue takes more, where it had no room.
const ROOM: usize = 10;

/// How long it takes at most until the fate of a record is known whose receipt is lost, as long as the queue is there.
pub(crate) const UNKNOWN_US: u64 = 5 * S;

impl World {
    /// Carries on what a worker gave to its links.
    pub(crate) fn carry(&mut self, at: At) {
        let links = &self.nodes[at.node].links[at.worker];
        let (turns, early) = {
            let records = &mut *links.records.borrow_mut();
            (records.take_unplanned(), records.take_early())
        };
        let requests = links.downlink_state.borrow_mut().take_requests();
        (0..turns).for_each(|_| self.plan_turn(at));
        if !early.is_empty() {
            self.schedule.after(MS, Event::Queue(at, News::Receipts(early)));
        }
        requests.into_iter().for_each(|request| self.request(at, request));
    }

    /// Lets a record have its turn at the queue.
    fn plan_turn(&mut self, at: At) {
        let now_us = self.schedule.now_us();
        let links = &mut self.nodes[at.node].links[at.worker];
        let (low_us, high_us) = links.records.borrow().conditions.delay_us;
        links.turn_us = links.turn_us.max(now_us + self.random.between(low_us, high_us));
        self.schedule.at(links.turn_us, Event::Turn(at));
    }

    /// All records that wait have their turns: the way to the queue is free again.
    pub(crate) fn plan_turns(&mut self, at: At) {
        let waiting = self.nodes[at.node].links[at.worker].records.borrow().len();
        (0..waiting).for_each(|_| self.plan_turn(at));
    }

    /// The oldest record of a record queue has its turn.
    pub(crate) fn turn(&mut self, at: At) -> Result<(), Violation> {
        if self.nodes[at.node].incarnation != at.incarnation {
            return Ok(());
        }
        let links = &self.nodes[at.node].links[at.worker];
        if links.is_stuck || links.records.borrow().is_away {
            return Ok(());
        }
        let records = links.records.clone();
        let Some(fate) = records.borrow_mut().advance(&mut self.random) else { return Ok(()) };
        let slow_us = self.random.between(S, 3 * S);
        // Acknowledgements overtake each other.
        let quick_us = if self.random.happens(950) { self.random.between(MS / 10, 8 * MS) } else { slow_us / 4 };
        let (receipt, after_us) = match fate {
            StoreResult::Stored(record, receipt) => {
                self.keep(at.node, &record, quick_us)?;
                (receipt, quick_us)
            }
            StoreResult::Untold(record, receipt) => {
                self.keep(at.node, &record, UNKNOWN_US)?;
                (receipt, slow_us)
            }
            StoreResult::Lost(receipt @ Receipt::Stored(_)) | StoreResult::Refused(receipt) => (receipt, quick_us),
            StoreResult::Lost(receipt) => (receipt, slow_us),
        };
        self.schedule.after(after_us, Event::Queue(at, News::Receipts(vec![receipt])));
        let has_room = {
            let records = &mut *records.borrow_mut();
            let has_room = records.has_refused && records.len() < ROOM;
            records.has_refused &= !has_room;
            has_room
        };
        if has_room {
            self.schedule.after(MS, Event::Queue(at, News::Room));
        }
        Ok(())
    }

    /// Stores a record of a replica, which hears of it so much later.
    pub(crate) fn keep(&mut self, node: usize, record: &Record, heard_after_us: u64) -> Result<(), Violation> {
        let text = String::from_utf8_lossy(&record.payload);
        let [kind, device, session] = ["type", "deviceid", "sessionid"].map(|name| attribute(&text, name));
        match Mark::find(&text) {
            Some(mark) => self.note(format_args!("the queue stores from replica {node}: {kind} {mark} in {session}")),
            None => self.note(format_args!("the queue stores from replica {node}: {kind} of {device} in {session}")),
        }
        if self.mistake == Mistake::LostOffline && text.contains("device.offline") {
            return Ok(());
        }
        let now_us = self.schedule.now_us();
        if !attribute(&text, "replicaid").is_empty() {
            // It tells once all that the session had on its way is settled.
            let told_us = now_us + heard_after_us + S;
            let device = if device == CHILD { GATEWAY } else { device };
            let untold = self.nodes[node].untold_us.entry(device.to_owned()).or_default();
            *untold = told_us.max(*untold);
        }
        if let Some(session) = self.store.store(record, now_us)
            && let Some((device, _)) = self.sessions().iter().find(|(_, living)| *living == session)
        {
            return Err(Violation::Presence(format!("{device} counts as offline, and its session {session} lives")));
        }
        Ok(())
    }

    /// Brings news of the queue to a worker.
    pub(crate) fn queue(&mut self, at: At, news: News) -> Result<(), Violation> {
        if self.nodes[at.node].incarnation != at.incarnation {
            return Ok(());
        }
        let links = &mut self.nodes[at.node].links[at.worker];
        let mut receipts = Vec::new();
        match news {
            News::Receipts(some) => {
                // The first record that is stored proves that the queue is there.
                let is_proof = some.iter().any(|receipt| matches!(receipt, Receipt::Stored(_)));
                if is_proof && !links.records.borrow().is_away {
                    links.report.availability = Availability::Ok;
                }
                receipts = some;
            }
            News::Away => links.report.availability = Availability::Away,
            News::Back => (links.report.epoch, links.report.wants_heartbeat) = (links.report.epoch + 1, true),
            News::Room => links.report.epoch += 1,
            News::Unproved => links.report.wants_heartbeat = true,
        }
        let report = links.report;
        links.report.wants_heartbeat = false;
        self.drive(at.node, at.incarnation, |replica, now| replica.take_receipts(at.worker, receipts, report, now))?;
        Ok(())
    }

    /// Lets workers write something, where nothing has proved yet that the queue is there.
    pub(crate) fn ask_for_heartbeat(&mut self) {
        for (node, place) in self.nodes.iter().enumerate().filter(|(_, place)| place.replica.is_some()) {
            for (worker, links) in place.links.iter().enumerate() {
                let is_there = !links.records.borrow().is_away && !links.is_stuck && links.report.epoch > 0;
                if is_there && links.report.availability != Availability::Ok {
                    self.schedule
                        .after(0, Event::Queue(At { node, worker, incarnation: place.incarnation }, News::Unproved));
                }
            }
        }
    }

    /// Carries a claim on, to every other replica that can hear it.
    pub(crate) fn say(&mut self, node: usize, said: Said) {
        let now_us = self.schedule.now_us();
        let incarnation = self.nodes[node].incarnation;
        let claim = match said {
            Said::Barrier(number) => {
                // Where the server is away, the time alone is the proof.
                let after_us = if self.nodes[node].is_cut { 2 * S } else { MS };
                let at_us = self.nodes[node].claim_us.max(now_us) + after_us;
                return self.schedule.at(at_us, Event::Barrier(node, incarnation, number));
            }
            Said::Claim(claim) => claim,
        };
        self.note(format_args!("replica {node} says {claim:?}"));
        if self.mistake == Mistake::LostClaims && matches!(claim.kind, ClaimKind::Begun | ClaimKind::Held) {
            return;
        }
        if self.nodes[node].is_cut {
            return self.miss(&claim);
        }
        let text = claim.encode(None);
        let leaves_us = now_us.max(self.nodes[node].stalled_until_us[0]);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let latency_us = self.random.between(MS / 5, 30 * MS);
            let place = &mut self.nodes[other];
            place.claim_us = place.claim_us.max(leaves_us.max(place.stalled_until_us[1]) + latency_us);
            self.schedule.at(place.claim_us, Event::Claim(other, place.incarnation, text.clone()));
        }
    }

    /// Notes what a replica does not hear.
    pub(crate) fn miss(&mut self, claim: &Claim) {
        if claim.kind == ClaimKind::Late {
            self.unheard.insert(claim.device.to_string());
        }
    }

    /// The connection of a replica to the server is there, or lost.
    pub(crate) fn server(&mut self, node: usize, incarnation: u64, is_there: bool) -> Result<(), Violation> {
        if self.lives(node, incarnation) {
            self.note(format_args!("replica {node} has the server: {is_there}"));
            self.nodes[node].is_cut = !is_there;
            self.nodes[node].links.iter().for_each(|links| links.downlink_state.borrow_mut().set_away(!is_there));
            self.drive(node, incarnation, |replica, now| replica.reach(is_there, now))?;
        }
        Ok(())
    }

    fn request(&mut self, at: At, request: Request) {
        let event = match request {
            Request::Attach(session, device) => {
                self.callers.attach(at, session, device);
                DownlinkEvent::Attached(session)
            }
            Request::Detach(session) => return self.callers.detach(at, session),
            Request::Barrier(number) => DownlinkEvent::BarrierReached(number),
            Request::Answer(..) => return,
        };
        let now_us = self.schedule.now_us();
        let latency_us = self.random.between(MS / 5, 30 * MS);
        let place = &mut self.nodes[at.node];
        let links = &mut place.links[at.worker];
        if place.is_cut {
            // What cannot be declared at present does not hold up what comes of others.
            let away_us = self.random.between(0, 6 * S);
            return self.schedule.at(now_us + away_us, Event::Command(at, Box::new(event)));
        }
        links.command_us = links.command_us.max(now_us) + latency_us;
        self.schedule.at(links.command_us, Event::Command(at, Box::new(event)));
    }

    /// Brings something from the server to a worker.
    pub(crate) fn command(&mut self, at: At, event: DownlinkEvent) -> Result<(), Violation> {
        let mut again = None;
        let event = match event {
            DownlinkEvent::Command { to: Recipient::Session(session), ticket: Some(ticket), command } => {
                if !self.lives(at.node, at.incarnation) || self.nodes[at.node].is_cut {
                    return Ok(());
                }
                self.nodes[at.node].links[at.worker].downlink_state.borrow_mut().give(ticket);
                let is_wanted = self.callers.wants(at, session);
                let to = if is_wanted { Recipient::Session(session) } else { Recipient::Ended };
                if self.mistake == Mistake::NeverGiven && self.random.happens(100) {
                    return Ok(());
                }
                let event = |command| DownlinkEvent::Command { to: to.clone(), ticket: Some(ticket), command };
                if self.mistake == Mistake::TwiceGiven {
                    again = command.clone().ok().map(|command| event(Ok(command)));
                }
                event(command)
            }
            event => event,
        };
        self.note(format_args!("replica {} gets {event:?}", at.node));
        for event in [Some(event), again].into_iter().flatten() {
            self.drive(at.node, at.incarnation, |replica, now| replica.command(at.worker, event, now))?;
        }
        Ok(())
    }

    /// Somebody asks a device something.
    pub(crate) fn call(&mut self) {
        let now_us = self.schedule.now_us();
        let device = self.random.below(self.devices.len());
        let id = self.devices[device].id.clone();
        let (is_async, forgets) = (self.random.happens(150), self.random.happens(100));
        let timeout_ms = self.random.between(200, 6_000);
        let body = format!(
            r#"{{"properties":["a"],"headers":{{"async":{is_async},"sendAndForget":{forgets},"timeout":{timeout_ms}}}}}"#
        );
        let suffix = if self.random.happens(20) { "disconnect" } else { "properties.read" };
        for (at, session) in self.callers.interested(&id) {
            let command = Command::from_subject(&format!("{PRODUCT}.{id}.{suffix}"), body.as_bytes());
            // Each session that hears the call answers it; the caller takes the first answer.
            let ticket = Some(self.callers.ask());
            let event = DownlinkEvent::Command { to: Recipient::Session(session), ticket, command };
            let latency_us = self.random.between(MS / 5, 30 * MS);
            let place = &mut self.nodes[at.node];
            if !place.is_cut && place.incarnation == at.incarnation {
                let links = &mut place.links[at.worker];
                links.command_us = links.command_us.max(now_us) + latency_us;
                self.schedule.at(links.command_us, Event::Command(at, Box::new(event)));
            }
        }
    }

    /// A device looks at its clock.
    pub(crate) fn device(&mut self, device: usize) -> Result<(), Violation> {
        let now_us = self.schedule.now_us();
        self.devices[device].act(now_us, START_MS + now_us / MS, &mut self.random);
        let pause_us = self.random.between(20 * MS, 500 * MS);
        self.schedule.after(pause_us, Event::Device(device));
        self.deeds(device)
    }

    /// Does what a device wants done.
    pub(crate) fn deeds(&mut self, device: usize) -> Result<(), Violation> {
        let now_us = self.schedule.now_us();
        for deed in self.devices[device].take_deeds() {
            match deed {
                Deed::Open => self.open(device),
                Deed::Send(bytes) => {
                    let Some(number) = self.connected[device] else { continue };
                    let Some(wire) = self.wires.get_mut(&number) else { continue };
                    let times = wire.send(Direction::Up, &bytes, now_us, &mut self.random);
                    times.into_iter().for_each(|at_us| self.schedule.at(at_us, Event::Arrive(number, Direction::Up)));
                }
                Deed::Close => {
                    let Some(number) = self.connected[device].take() else { continue };
                    let Some(wire) = self.wires.get_mut(&number) else { continue };
                    if let Some(at_us) = wire.close(Direction::Up, now_us, &mut self.random) {
                        self.schedule.at(at_us, Event::Arrive(number, Direction::Up));
                    }
                }
                Deed::Vanish => {
                    let Some(number) = self.connected[device].take() else { continue };
                    if let Some(wire) = self.wires.get_mut(&number) {
                        wire.die();
                    }
                }
                Deed::Acknowledged(mark) => {
                    if !self.store.holds(mark) {
                        return Err(Violation::Lost(format!("{mark}")));
                    }
                }
            }
        }
        Ok(())
    }

    fn open(&mut self, device: usize) {
        let node = self.random.below(self.nodes.len());
        let at = At { node, worker: self.random.below(self.workers), incarnation: self.nodes[node].incarnation };
        let number = self.wires.len();
        self.note(format_args!("device {device} connects to {at:?} on wire {number}"));
        let wire = Wire::new(device, at, &mut self.random);
        self.wires.insert(number, wire);
        self.connected[device] = Some(number);
        if self.nodes[node].replica.is_none() || self.nodes[node].is_draining {
            // Nobody listens.
            self.cut(number, true);
        } else {
            self.schedule.after(MS / 10, Event::Accept(number));
            // Some moments are rare, and worth more than their share.
            if self.kinds.contains(&Kind::Freeze) && self.random.happens(100) {
                let soon_us = self.random.between(0, 100 * MS);
                self.schedule.after(soon_us, Event::Strike(Kind::Freeze, at));
            }
        }
    }

    /// Breaks a connection; `both` ends notice, or that of the replica alone.
    pub(crate) fn cut(&mut self, number: usize, both: bool) {
        let now_us = self.schedule.now_us();
        let ways: &[Direction] = if both { &[Direction::Up, Direction::Down] } else { &[Direction::Up] };
        for &way in ways {
            let Some(wire) = self.wires.get_mut(&number) else { return };
            if let Some(at_us) = wire.cut(way, now_us, &mut self.random) {
                self.schedule.at(at_us, Event::Arrive(number, way));
            }
        }
    }

    /// Something may arrive on a wire.
    pub(crate) fn arrive(&mut self, number: usize, way: Direction) -> Result<(), Violation> {
        let now_us = self.schedule.now_us();
        let Some(wire) = self.wires.get_mut(&number) else { return Ok(()) };
        let (device, at) = (wire.device, wire.at);
        let Some(arrival) = wire.arrive(way, now_us) else { return Ok(()) };
        match (way, arrival) {
            (Direction::Up, Arrival::Bytes(bytes)) => {
                self.drive(at.node, at.incarnation, |replica, now| replica.receive(at.worker, number, &bytes, now))?;
            }
            (Direction::Up, Arrival::End) => {
                self.note(format_args!("{at:?} sees the end of wire {number}"));
                self.drive(at.node, at.incarnation, |replica, now| replica.lose(at.worker, number, now))?;
            }
            (Direction::Down, _) if self.connected[device] != Some(number) => {}
            (Direction::Down, arrival) => {
                match arrival {
                    Arrival::Bytes(bytes) => self.devices[device].read(&bytes, now_us, &mut self.random)?,
                    Arrival::End => self.devices[device].end(now_us, &mut self.random),
                }
                self.deeds(device)?;
            }
        }
        Ok(())
    }
}
