//! A whole run, and what must hold at every moment, when all is quiet, and at the end.

use jetlinks_bridge::protocol::limit::Load;

use crate::device::{CHILD, GATEWAY, Stage};
use crate::node::{At, FAIR, LIMITS};
use crate::schedule::S;
use crate::violation::Violation;
use crate::world::{Mistake, World};

/// How long faults go on.
const ROUGH_US: u64 = 30 * S;

/// How long it may take until all is quiet: a device that was taken over too often is refused for 30 s.
const QUIET_US: u64 = 150 * S;

/// How long it takes at most until nothing is left of the sessions of devices that left.
const EMPTY_US: u64 = 40 * S;

/// How long a device may have two sessions where replicas hear each other: questions and their answers take a while.
const DOUBLED_US: u64 = 2 * S;

/// How long an acknowledgement may take where the queue is well: a record may have failed before.
const PROGRESS_US: u64 = 6 * S;

/// How often it is looked whether all is quiet.
const LOOK_US: u64 = 2 * S;

/// Counts of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Messages that were acknowledged and have a place in the order.
    pub(crate) acknowledged: usize,
    /// Connections that devices made.
    pub(crate) connections: u32,
    /// Commands that callers gave.
    pub(crate) commands: u64,
    /// Devices that may have been shown wrong for a while, as docs/wire.md says.
    pub(crate) unheard: usize,
    /// Of all events and their times.
    pub(crate) digest: u64,
}

impl Summary {
    /// Adds what happened in another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.acknowledged += other.acknowledged;
        self.connections += other.connections;
        self.commands += other.commands;
        self.unheard += other.unheard;
        self.digest ^= other.digest;
    }
}

/// Plays the run of a seed.
pub(crate) fn play(seed: u64, mistake: Mistake, is_traced: bool) -> Result<Summary, Violation> {
    let mut world = World::new(seed, mistake, is_traced);
    world.note(format_args!(
        "seed {seed}: {} replicas, {} devices, {:?} every {} ms",
        world.nodes.len(),
        world.devices.len(),
        world.kinds,
        world.fault_us / 1000,
    ));
    world.run(ROUGH_US)?;
    world.note(format_args!("faults end"));
    world.is_rough = false;
    world.devices.iter_mut().for_each(|device| device.is_busy = false);
    world.settle()?;
    world.check_quiet()?;
    let mut summary = Summary {
        acknowledged: world.devices.iter().map(|device| device.acknowledged.len()).sum(),
        connections: world.devices.iter().map(|device| device.connections).sum(),
        commands: world.callers.asked(),
        unheard: world.unheard.len(),
        digest: 0,
    };
    world.reconnect_unheard()?;
    world.check_presence()?;
    world.empty()?;
    summary.digest = world.digest;
    Ok(summary)
}

impl World {
    /// Checks that hold at every moment.
    pub(crate) fn check_bounds(&self, node: usize) -> Result<(), Violation> {
        let Some(replica) = &self.nodes[node].replica else { return Ok(()) };
        // What a session says by itself is let in beyond the bounds, and so is one packet of each.
        let slack_bytes = self.devices.len() * 8 * LIMITS.packet_bytes;
        for load in replica.loads() {
            let is_within = load.held_bytes <= LIMITS.inflight_bytes + slack_bytes
                && load.commands <= LIMITS.commands
                && load.command_bytes <= LIMITS.command_bytes()
                && load.buffered_bytes <= LIMITS.buffered_bytes();
            if !is_within {
                return Err(Violation::Memory(format!("replica {node} holds {load:?}")));
            }
        }
        for links in &self.nodes[node].links {
            if let Some(ticket) = links.downlink_state.borrow().wrong().first() {
                return Err(Violation::Outcomes(format!("command {ticket} has one outcome too many")));
            }
        }
        Ok(())
    }

    /// No device has two sessions for long, as long as all replicas hear each other.
    pub(crate) fn check_sessions(&mut self) -> Result<(), Violation> {
        let now_us = self.schedule.now_us();
        let is_calm = self.nodes.iter().all(|node| {
            let is_heard = !node.is_cut && node.stalled_until_us.iter().all(|until_us| *until_us < now_us);
            node.replica.is_none() || is_heard && node.frozen_until_us.is_none()
        });
        if !is_calm {
            self.calm_us = now_us;
        }
        let mut devices: Vec<String> = self.sessions().into_iter().map(|(device, _)| device).collect();
        devices.sort();
        let doubled = |device: &String| devices.iter().filter(|other| *other == device).count() > 1;
        self.doubled_us.retain(|device, _| doubled(device));
        for device in devices.iter().filter(|device| doubled(device)) {
            let since_us = *self.doubled_us.entry(device.clone()).or_insert(now_us);
            if now_us > since_us.max(self.calm_us) + DOUBLED_US {
                return Err(Violation::Sessions(format!("{device} has two sessions since {since_us} us")));
            }
        }
        Ok(())
    }

    /// A device that waits for an acknowledgement gets it soon, where the queue takes and acknowledges everything.
    pub(crate) fn check_progress(&mut self) -> Result<(), Violation> {
        let now_us = self.schedule.now_us();
        for node in &mut self.nodes {
            let is_well = node.frozen_until_us.is_none() && !node.is_draining;
            for links in &mut node.links {
                let records = links.records.borrow();
                if !is_well || links.is_stuck || records.is_away || records.conditions != FAIR {
                    links.fair_us = now_us;
                }
            }
        }
        for (device, wire) in self.devices.iter().zip(&self.connected) {
            let Some(since_us) = device.waits_since_us() else { continue };
            let wire = wire.and_then(|number| self.wires.get(&number)).filter(|wire| wire.is_whole());
            let Some(At { node, worker, incarnation }) = wire.map(|wire| wire.at) else { continue };
            let fair_us = self.nodes[node].links[worker].fair_us;
            if self.lives(node, incarnation) && now_us > since_us.max(fair_us) + PROGRESS_US {
                let text = format!("{} waits since {since_us} us for an acknowledgement of replica {node}", device.id);
                return Err(Violation::Standstill(text));
            }
        }
        Ok(())
    }

    /// Waits until every device is connected and nothing is on its way.
    fn settle(&mut self) -> Result<(), Violation> {
        let end_us = self.schedule.now_us() + QUIET_US;
        let mut quiet_looks = 0;
        while self.schedule.now_us() < end_us {
            self.run(self.schedule.now_us() + LOOK_US)?;
            quiet_looks = if self.unquiet().is_none() { quiet_looks + 1 } else { 0 };
            // Claims that were said meanwhile have arrived.
            if quiet_looks == 6 {
                return Ok(());
            }
        }
        Err(self.unquiet().unwrap_or_else(|| Violation::Standstill("it is never quiet for long".to_owned())))
    }

    /// Why it is not quiet.
    fn unquiet(&mut self) -> Option<Violation> {
        for (index, node) in self.nodes.iter().enumerate() {
            let Some(replica) = &node.replica else {
                return Some(Violation::Standstill(format!("replica {index} is dead")));
            };
            let is_well = node.frozen_until_us.is_none() && !node.is_cut && !node.is_draining;
            if !is_well || node.links.iter().any(|links| links.is_stuck) {
                return Some(Violation::Standstill(format!("replica {index} is not there yet")));
            }
            if let Some(load) = replica.loads().find(|load| *load != Load::default()) {
                return Some(Violation::Memory(format!("replica {index} holds {load:?}")));
            }
            for links in &node.links {
                if let Some(ticket) = links.downlink_state.borrow().unanswered().next() {
                    return Some(Violation::Outcomes(format!("command {ticket} has no outcome of replica {index}")));
                }
            }
        }
        for index in 0..self.devices.len() {
            let device = &self.devices[index];
            if device.stage != Stage::Connected || device.unacknowledged() > 0 {
                let text = format!("{} is {:?}, {} unacknowledged", device.id, device.stage, device.unacknowledged());
                return Some(Violation::Standstill(text));
            }
            let id = device.id.clone();
            let sessions = self.sessions_of(&id);
            if sessions.len() != 1 {
                return Some(Violation::Sessions(format!("{id} has {sessions:?}")));
            }
        }
        None
    }

    fn sessions_of(&mut self, device: &str) -> Vec<String> {
        self.sessions().into_iter().filter(|(of, _)| of == device).map(|(_, session)| session).collect()
    }

    fn check_quiet(&mut self) -> Result<(), Violation> {
        for device in &self.devices {
            self.store.check_order(device.index, &device.acknowledged)?;
        }
        let unheard = self.unheard.clone();
        self.check_presence_but(|device| unheard.contains(device))
    }

    fn check_presence(&mut self) -> Result<(), Violation> {
        self.check_presence_but(|_| false)
    }

    fn check_presence_but(&mut self, is_excused: impl Fn(&str) -> bool) -> Result<(), Violation> {
        let now_us = self.schedule.now_us();
        let devices: Vec<String> = self.devices.iter().map(|device| device.id.clone()).collect();
        for device in devices.into_iter().filter(|device| !is_excused(device)) {
            let sessions = self.sessions_of(&device);
            let child = (device == GATEWAY).then_some(CHILD);
            for shown_of in [Some(device.as_str()), child].into_iter().flatten() {
                let shown = self.store.online(shown_of, now_us);
                if shown != sessions.first().map(String::as_str) {
                    let text = format!("{device} has {sessions:?}, and of {shown_of} consumers see {shown:?}");
                    return Err(Violation::Presence(text));
                }
            }
        }
        Ok(())
    }

    /// Devices that may be shown wrong connect once more: then they are shown right.
    fn reconnect_unheard(&mut self) -> Result<(), Violation> {
        let now_us = self.schedule.now_us();
        for index in 0..self.devices.len() {
            if self.unheard.contains(&self.devices[index].id) {
                self.devices[index].leave(now_us, &mut self.random);
                self.deeds(index)?;
            }
        }
        if !self.unheard.is_empty() {
            self.unheard.clear();
            self.settle()?;
        }
        Ok(())
    }

    /// Every device leaves; then nothing is left.
    fn empty(&mut self) -> Result<(), Violation> {
        self.note(format_args!("devices leave"));
        let now_us = self.schedule.now_us();
        for index in 0..self.devices.len() {
            self.devices[index].wants_session = false;
            match self.random.below(3) {
                0 => self.devices[index].vanish(now_us, &mut self.random),
                1 => self.devices[index].end(now_us, &mut self.random),
                _ => self.devices[index].leave(now_us, &mut self.random),
            }
            self.deeds(index)?;
        }
        self.run(now_us + EMPTY_US)?;
        self.check_presence()?;
        if !self.callers.is_empty() {
            return Err(Violation::Memory("interests in commands of sessions that have ended are left".to_owned()));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let replica = node.replica.as_ref().expect("every replica lives");
            let left = replica.loads().find(|load| *load != Load::default());
            if !replica.is_empty() || left.is_some() {
                return Err(Violation::Memory(format!(
                    "replica {index} keeps connections or sessions, and holds {left:?}"
                )));
            }
        }
        Ok(())
    }
}
