//! Devices, replicas, a queue and callers, on one simulated clock.
//!
//! Whatever takes time is an event of the [`Schedule`]; whatever is drawn follows from the seed. A replica is called with one
//! event at a time, and what it did is carried on: bytes to devices, records to the queue, claims to other replicas,
//! requests to the server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jetlinks_bridge::protocol::limit::Now;
use jetlinks_bridge::replica::claim::Claim;

use crate::callers::Callers;
use crate::device::Device;
use crate::event::{Event, News};
use crate::faults::Kind;
use crate::node::{At, LIMITS, Node};
use crate::random::Random;
use crate::replica::{Output, Replica};
use crate::schedule::{MS, S, Schedule};
use crate::store::Store;
use crate::uplink::Acknowledging;
use crate::violation::Violation;
use crate::wire::{Direction, Wire};

/// How often a worker looks at its deadlines.
const TICK_US: u64 = 100 * MS;

/// How often the world looks for devices with two sessions.
const LOOK_US: u64 = 500 * MS;

/// A mistake that the world is to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    /// None.
    None,
    /// See [`Acknowledging::Early`].
    EarlyReceipts,
    /// See [`Acknowledging::Foreign`].
    ForeignReceipts,
    /// Claims of new sessions are not passed on.
    LostClaims,
    /// A command reaches its session twice.
    TwiceGiven,
    /// Commands are lost between the replica's connection and its sessions.
    NeverGiven,
    /// `offline` is acknowledged and not stored.
    LostOffline,
}

/// See the module.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) schedule: Schedule<Event>,
    pub(crate) nodes: Vec<Node>,
    /// Workers of each replica.
    pub(crate) workers: usize,
    pub(crate) devices: Vec<Device>,
    pub(crate) store: Store,
    pub(crate) callers: Callers,
    pub(crate) mistake: Mistake,
    /// Faults of this run, and how far apart they are, us.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) fault_us: u64,
    /// Faults and callers go on.
    pub(crate) is_rough: bool,
    pub(crate) wires: BTreeMap<usize, Wire>,
    /// By device the wire that it is connected by.
    pub(crate) connected: Vec<Option<usize>>,
    /// Devices whose late presence some replica did not hear of: until their next CONNECT they may be shown wrong.
    pub(crate) unheard: BTreeSet<String>,
    /// Since when every replica hears every other one, us.
    pub(crate) calm_us: u64,
    /// Since when a device has two sessions, us.
    pub(crate) doubled_us: BTreeMap<String, u64>,
    is_traced: bool,
    /// Of all events so far and their times.
    pub(crate) digest: u64,
}

impl World {
    /// The run of that seed, with a mistake or none.
    pub(crate) fn new(seed: u64, mistake: Mistake, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let nodes = 2 + random.below(2);
        // Mostly the clocks of machines agree.
        let nodes = (0..nodes).map(|_| Node::new(if random.happens(800) { 0 } else { random.between(0, 60_000) }));
        let nodes: Vec<Node> = nodes.collect();
        let devices: Vec<Device> = (0..2 + random.below(3)).map(Device::new).collect();
        let kinds = Kind::draw(&mut random);
        let fault_us = random.between(300 * MS, 5 * S);
        let mut world = Self {
            schedule: Schedule::new(),
            store: Store::new(LIMITS.inflight_per_connection),
            callers: Callers::default(),
            mistake,
            kinds,
            fault_us,
            is_rough: true,
            wires: BTreeMap::new(),
            connected: vec![None; devices.len()],
            unheard: BTreeSet::new(),
            calm_us: 0,
            doubled_us: BTreeMap::new(),
            is_traced,
            digest: 0,
            workers: 1 + random.below(2),
            random,
            nodes,
            devices,
        };
        (0..world.nodes.len()).for_each(|node| world.begin(node));
        for device in 0..world.devices.len() {
            let at_us = world.random.between(0, S);
            world.schedule.at(at_us, Event::Device(device));
        }
        world.schedule.at(0, Event::Look);
        world.schedule.at(S, Event::Call);
        world.schedule.at(2 * S, Event::Fault);
        world
    }

    /// A replica begins at that place.
    pub(crate) fn begin(&mut self, node: usize) {
        let acknowledging = match self.mistake {
            Mistake::EarlyReceipts => Acknowledging::Early,
            Mistake::ForeignReceipts => Acknowledging::Foreign,
            _ => Acknowledging::Rightly,
        };
        self.nodes[node].begin(node, self.workers, acknowledging, &mut self.random);
        let incarnation = self.nodes[node].incarnation;
        self.note(format_args!("replica {node} begins"));
        let server_us = self.random.between(0, 500 * MS);
        self.schedule.after(server_us, Event::Server(node, incarnation, true));
        for worker in 0..self.workers {
            let at = At { node, worker, incarnation };
            let queue_us = self.random.between(0, 500 * MS);
            self.schedule.after(queue_us, Event::Queue(at, News::Back));
            self.schedule.after(TICK_US, Event::Tick(at));
        }
    }

    /// Whether a replica is there, in that incarnation.
    pub(crate) fn lives(&self, node: usize, incarnation: u64) -> bool {
        self.nodes[node].incarnation == incarnation && self.nodes[node].replica.is_some()
    }

    /// Lets everything happen up to that time.
    pub(crate) fn run(&mut self, until_us: u64) -> Result<(), Violation> {
        while let Some(event) = self.schedule.next(until_us) {
            // FNV-1a.
            for number in [self.schedule.now_us(), event.kind()] {
                self.digest = (self.digest ^ number).wrapping_mul(0x0100_0000_01b3);
            }
            if let Some(event) = self.defer(event) {
                self.happen(event)?;
            }
        }
        Ok(())
    }

    /// Tells what happens, where somebody listens.
    #[expect(clippy::print_stdout, reason = "the trace of one run, which was asked for")]
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        if self.is_traced {
            let now_us = self.schedule.now_us();
            println!("{:>4}.{:06}  {what}", now_us / S, now_us % S);
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Device(device) => self.device(device)?,
            Event::Arrive(wire, way) => self.arrive(wire, way)?,
            Event::Accept(wire) => {
                if let Some(at) = self.wires.get(&wire).map(|wire| wire.at) {
                    self.drive(at.node, at.incarnation, |replica, now| replica.accept(at.worker, wire, now))?;
                }
            }
            Event::Tick(at) => {
                self.drive(at.node, at.incarnation, |replica, now| replica.tick(at.worker, now))?;
                if self.lives(at.node, at.incarnation) {
                    self.schedule.after(TICK_US, Event::Tick(at));
                }
            }
            Event::WorkerMessage(node, incarnation) => {
                if self.lives(node, incarnation) {
                    self.nodes[node].reads_messages = false;
                }
                self.drive(node, incarnation, |replica, now| replica.read_messages(now))?;
            }
            Event::Drain(node, incarnation) => self.drain(node, incarnation)?,
            Event::Turn(at) => self.turn(at)?,
            Event::Queue(at, news) => self.queue(at, news)?,
            Event::Claim(node, incarnation, text) => {
                let claim = Claim::decode(text.as_bytes(), None).expect("a claim can be read");
                if self.nodes[node].is_cut {
                    self.miss(&claim);
                } else if self.lives(node, incarnation) {
                    self.note(format_args!("replica {node} hears {claim:?}"));
                    self.drive(node, incarnation, |replica, now| replica.hear(&claim, now))?;
                }
            }
            Event::Server(node, incarnation, is_there) => self.server(node, incarnation, is_there)?,
            Event::Barrier(node, incarnation, number) => {
                self.drive(node, incarnation, |replica, _| replica.pass(number))?;
            }
            Event::Command(at, event) => self.command(at, *event)?,
            Event::Look => {
                self.check_sessions()?;
                self.check_progress()?;
                self.ask_for_heartbeat();
                self.schedule.after(LOOK_US, Event::Look);
            }
            Event::Call => {
                if self.is_rough {
                    self.call();
                    let pause_us = self.random.between(20 * MS, 600 * MS);
                    self.schedule.after(pause_us, Event::Call);
                }
            }
            Event::Fault => {
                if self.is_rough {
                    self.fault()?;
                    let pause_us = self.random.between(0, 2 * self.fault_us);
                    self.schedule.after(pause_us, Event::Fault);
                }
            }
            Event::Strike(kind, at) => {
                if self.is_rough && self.lives(at.node, at.incarnation) {
                    self.strike(kind, at)?;
                }
            }
            Event::Heal(kind, at) => self.heal(kind, at)?,
        }
        Ok(())
    }

    /// Puts off what a replica that stands still does not see; each kind of it stays in order.
    fn defer(&mut self, event: Event) -> Option<Event> {
        let (node, kind) = match &event {
            Event::Arrive(wire, Direction::Up) => (self.wires.get(wire)?.at.node, 5),
            Event::Accept(wire) => (self.wires.get(wire)?.at.node, 4),
            Event::Tick(at) => (at.node, 1),
            Event::WorkerMessage(node, _) | Event::Drain(node, _) => (*node, 2),
            Event::Queue(at, _) => (at.node, 3),
            Event::Claim(node, ..) | Event::Server(node, ..) | Event::Barrier(node, ..) => (*node, 7),
            Event::Command(at, _) => (at.node, 11),
            _ => return Some(event),
        };
        let Some(until_us) = self.nodes[node].frozen_until_us else { return Some(event) };
        // In which order the kinds are looked at depends on the moment.
        let at_us = until_us + (until_us / MS * kind) % 13 * MS;
        self.schedule.at(at_us, event);
        None
    }

    /// Calls a replica, if that incarnation of it is not over, and carries on what it did.
    pub(crate) fn drive<R>(
        &mut self,
        node: usize,
        incarnation: u64,
        act: impl FnOnce(&mut Replica, Now) -> R,
    ) -> Result<Option<R>, Violation> {
        let place = &mut self.nodes[node];
        let now = place.now(node, self.schedule.now_us());
        let Some(replica) = place.replica.as_mut().filter(|_| place.incarnation == incarnation) else {
            return Ok(None);
        };
        let result = act(replica, now);
        let (outputs, said, has_messages) = (replica.take_outputs(), replica.take_said(), replica.has_messages());
        if has_messages && !std::mem::replace(&mut place.reads_messages, true) {
            let soon_us = self.random.between(0, 3 * MS);
            self.schedule.after(soon_us, Event::WorkerMessage(node, incarnation));
        }
        outputs.into_iter().for_each(|output| self.output(output));
        said.into_iter().for_each(|said| self.say(node, said));
        for worker in 0..self.nodes[node].links.len() {
            self.carry(At { node, worker, incarnation });
        }
        self.check_bounds(node)?;
        Ok(Some(result))
    }

    /// Carries bytes of a replica on.
    fn output(&mut self, output: Output) {
        let now_us = self.schedule.now_us();
        let (number, times) = match output {
            Output::Send(number, bytes) => {
                let Some(wire) = self.wires.get_mut(&number) else { return };
                (number, wire.send(Direction::Down, &bytes, now_us, &mut self.random))
            }
            Output::Close(number) => {
                let Some(wire) = self.wires.get_mut(&number) else { return };
                (number, wire.close(Direction::Down, now_us, &mut self.random).into_iter().collect())
            }
        };
        times.into_iter().for_each(|at_us| self.schedule.at(at_us, Event::Arrive(number, Direction::Down)));
    }

    /// Every session that lives, of every replica: device and session.
    pub(crate) fn sessions(&mut self) -> Vec<(String, String)> {
        self.nodes.iter_mut().filter_map(|node| node.replica.as_mut()).flat_map(Replica::sessions).collect()
    }
}
