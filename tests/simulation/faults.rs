//! Faults: which a run has, how they begin and how they end.

use crate::event::{Event, News};
use crate::links::UNKNOWN_US;
use crate::node::{At, FAIR};
use crate::random::Random;
use crate::schedule::{MS, S};
use crate::uplink::Conditions;
use crate::violation::Violation;
use crate::world::World;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A connection of a device breaks, at any byte.
    Break,
    /// A device loses its power.
    Vanish,
    /// A device leaves in good order.
    Leave,
    /// A replica is killed, and another one begins in its place.
    Kill,
    /// A replica shuts down in good order, and another one begins in its place.
    Drain,
    /// A replica stands still.
    Freeze,
    /// A replica loses the server of claims and commands.
    CutOff,
    /// Claims from a replica, or to it, come late.
    Stall,
    /// A replica loses the queue, and with it what is on its way from some record on.
    QueueAway,
    /// A replica loses the queue, and what is on its way is stored later.
    QueueHang,
    /// Nothing moves on the way to the queue, then all of it does.
    QueueStuck,
    /// The queue takes long.
    QueueSlow,
    /// The queue loses records, and acknowledgements.
    QueueLoss,
    /// The replica cluster_events that the queue is away. No fault of its own.
    Noticed,
    /// The replica has the queue again. No fault of its own.
    Back,
}

impl Kind {
    const ALL: [Kind; 13] = [
        Kind::Break,
        Kind::Vanish,
        Kind::Leave,
        Kind::Kill,
        Kind::Drain,
        Kind::Freeze,
        Kind::CutOff,
        Kind::Stall,
        Kind::QueueAway,
        Kind::QueueHang,
        Kind::QueueStuck,
        Kind::QueueSlow,
        Kind::QueueLoss,
    ];

    /// The kinds of one run: some only, for many at once hide what few of them do.
    pub(crate) fn draw(random: &mut Random) -> Vec<Kind> {
        let in_1000 = random.between(100, 700);
        Kind::ALL.into_iter().filter(|_| random.happens(in_1000)).collect()
    }
}

impl World {
    /// A fault begins.
    pub(crate) fn fault(&mut self) -> Result<(), Violation> {
        let Some(kind) = self.random.pick(&self.kinds) else { return Ok(()) };
        let now_us = self.schedule.now_us();
        match kind {
            Kind::Break => {
                let wires: Vec<usize> = self.connected.iter().copied().flatten().collect();
                if let Some(wire) = self.random.pick(&wires) {
                    self.note(format_args!("wire {wire} breaks"));
                    let both = self.random.happens(800);
                    self.cut(wire, both);
                }
            }
            Kind::Vanish | Kind::Leave => {
                let device = self.random.below(self.devices.len());
                self.note(format_args!("device {device}: {kind:?}"));
                match kind {
                    Kind::Vanish => self.devices[device].vanish(now_us, &mut self.random),
                    _ => self.devices[device].leave(now_us, &mut self.random),
                }
                self.deeds(device)?;
            }
            _ => {
                let (node, worker) = (self.random.below(self.nodes.len()), self.random.below(self.workers));
                if self.nodes[node].replica.is_some() {
                    self.strike(kind, At { node, worker, incarnation: self.nodes[node].incarnation })?;
                }
            }
        }
        Ok(())
    }

    /// A fault of a replica begins, or of a worker's connection to the queue.
    pub(crate) fn strike(&mut self, kind: Kind, at: At) -> Result<(), Violation> {
        let At { node, worker, incarnation } = at;
        let now_us = self.schedule.now_us();
        let most_us = if self.random.happens(700) { 3 * S } else { 15 * S };
        let length_us = self.random.between(100 * MS, most_us);
        let notice_us = self.random.between(0, 1_500 * MS);
        let place = &mut self.nodes[node];
        let links = &mut place.links[worker];
        match kind {
            Kind::Kill => self.kill(node)?,
            Kind::Drain if !place.is_draining => {
                place.is_draining = true;
                self.note(format_args!("replica {node} drains"));
                let per_second = self.random.between(1, 100);
                self.drive(node, incarnation, |replica, _| replica.drain(per_second))?;
                self.schedule.after(10 * MS, Event::Drain(node, incarnation));
                return Ok(());
            }
            Kind::Freeze if place.frozen_until_us.is_none() => place.frozen_until_us = Some(now_us + length_us),
            Kind::CutOff if !place.is_cut => {
                place.is_cut = true;
                self.schedule.after(notice_us, Event::Server(node, incarnation, false));
                self.schedule.after(notice_us + length_us, Event::Server(node, incarnation, true));
            }
            Kind::Stall => {
                let way = self.random.below(2);
                place.stalled_until_us[way] = now_us + length_us.min(4 * S);
            }
            Kind::QueueAway | Kind::QueueHang if !links.is_stuck => {
                links.is_stuck = true;
                links.records.borrow_mut().hangs = kind == Kind::QueueHang;
                self.schedule.after(notice_us, Event::Heal(Kind::Noticed, at));
                self.schedule.after(notice_us + length_us, Event::Heal(Kind::Back, at));
            }
            Kind::QueueStuck if !links.is_stuck => links.is_stuck = true,
            Kind::QueueSlow => {
                let high_us = self.random.between(100 * MS, 3 * S);
                links.records.borrow_mut().conditions = Conditions { delay_us: (10 * MS, high_us), ..FAIR };
            }
            Kind::QueueLoss => links.records.borrow_mut().conditions = Conditions { lost: 60, untold: 60, ..FAIR },
            _ => return Ok(()),
        }
        self.note(format_args!("{at:?}: {kind:?} for {length_us} us"));
        self.schedule.after(length_us, Event::Heal(kind, at));
        Ok(())
    }

    /// A replica goes on to shut down.
    pub(crate) fn drain(&mut self, node: usize, incarnation: u64) -> Result<(), Violation> {
        let Some(progress) = self.drive(node, incarnation, |replica, now| replica.drain_step(now))? else {
            return Ok(());
        };
        if progress.is_none() {
            self.schedule.after(10 * MS, Event::Drain(node, incarnation));
            return Ok(());
        }
        self.note(format_args!("replica {node} has drained: {progress:?}"));
        self.kill(node)?;
        let pause_us = self.random.between(100 * MS, 3 * S);
        self.schedule.after(pause_us, Event::Heal(Kind::Kill, At { node, worker: 0, incarnation }));
        Ok(())
    }

    /// A replica is gone from one moment to the next.
    fn kill(&mut self, node: usize) -> Result<(), Violation> {
        for worker in 0..self.workers {
            let records = self.nodes[node].links[worker].records.clone();
            let stored = records.borrow_mut().leave(false, &mut self.random);
            stored.iter().try_for_each(|record| self.keep(node, record, UNKNOWN_US))?;
        }
        let now_us = self.schedule.now_us();
        let place = &mut self.nodes[node];
        // It does not say any more what of its presence came late.
        let is_frozen = place.frozen_until_us.is_some();
        let untold = place.untold_us.iter().filter(|(_, told_us)| is_frozen || now_us <= **told_us);
        self.unheard.extend(untold.map(|(device, _)| device.clone()));
        (place.replica, place.frozen_until_us) = (None, None);
        self.callers.forget(node);
        let wires: Vec<usize> = self.connected.iter().copied().flatten().collect();
        for wire in wires {
            if self.wires.get(&wire).is_none_or(|wire| wire.at.node != node) {
                continue;
            }
            // Its system closes its connections, or is gone as well.
            if self.random.happens(800) {
                self.cut(wire, true);
            } else if let Some(wire) = self.wires.get_mut(&wire) {
                wire.die();
            }
        }
        Ok(())
    }

    /// A fault ends.
    pub(crate) fn heal(&mut self, kind: Kind, at: At) -> Result<(), Violation> {
        let At { node, worker, incarnation } = at;
        if self.nodes[node].incarnation != incarnation {
            return Ok(());
        }
        if kind == Kind::Kill {
            self.begin(node);
            return Ok(());
        }
        if self.nodes[node].replica.is_none() {
            return Ok(());
        }
        self.note(format_args!("{at:?}: end of {kind:?}"));
        let records = self.nodes[node].links[worker].records.clone();
        match kind {
            Kind::Freeze => self.nodes[node].frozen_until_us = None,
            Kind::QueueStuck => {
                self.nodes[node].links[worker].is_stuck = false;
                self.plan_turns(at);
            }
            Kind::QueueSlow | Kind::QueueLoss => records.borrow_mut().conditions = FAIR,
            Kind::Noticed => {
                let hangs = records.borrow().hangs;
                let stored = records.borrow_mut().leave(hangs, &mut self.random);
                stored.iter().try_for_each(|record| self.keep(node, record, UNKNOWN_US))?;
                self.schedule.after(0, Event::Queue(at, News::Away));
            }
            Kind::Back => {
                let stored = records.borrow_mut().come_back();
                stored.iter().try_for_each(|record| self.keep(node, record, UNKNOWN_US))?;
                self.nodes[node].links[worker].is_stuck = false;
                self.schedule.after(0, Event::Queue(at, News::Back));
            }
            _ => {}
        }
        Ok(())
    }
}
