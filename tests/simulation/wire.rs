//! A connection of a device: bytes in both directions, late, in pieces, and broken at any byte.

use std::collections::VecDeque;

use crate::node::At;
use crate::random::Random;
use crate::schedule::MS;

/// One of the two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the device to the replica.
    Up,
    /// From the replica to the device.
    Down,
}

/// An arrival at one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Bytes, in order.
    Bytes(Vec<u8>),
    /// The other end has closed, or the connection is broken.
    End,
}

/// The way in one direction: what is on it arrives in order.
#[derive(Debug, Default)]
struct Lane {
    arriving: VecDeque<(u64, Arrival)>,
    last_us: u64,
    /// Nothing more goes in.
    is_closed: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Wire {
    /// The device, and the worker that it is connected to.
    pub(crate) device: usize,
    pub(crate) at: At,
    lanes: [Lane; 2],
    latency_us: u64,
    /// Both ends think that it is there, and nothing gets through.
    is_dead: bool,
}

impl Wire {
    /// A connection between those two.
    pub(crate) fn new(device: usize, at: At, random: &mut Random) -> Self {
        let latency_us = random.between(MS / 5, 40 * MS);
        Self { device, at, lanes: Default::default(), latency_us, is_dead: false }
    }

    /// Whether both ends are still there for each other.
    pub(crate) fn is_whole(&self) -> bool {
        !self.is_dead && self.lanes.iter().all(|lane| !lane.is_closed)
    }

    /// Sends bytes; when their pieces arrive.
    pub(crate) fn send(&mut self, way: Direction, bytes: &[u8], now_us: u64, random: &mut Random) -> Vec<u64> {
        let mut times = Vec::new();
        if self.is_dead || self.lanes[way as usize].is_closed {
            return times;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            // Mostly all at once.
            let length = if random.happens(800) { rest.len() } else { random.below(rest.len()) + 1 };
            let (piece, after) = rest.split_at(length);
            times.push(self.push(way, Arrival::Bytes(piece.to_vec()), now_us, random));
            rest = after;
        }
        times
    }

    /// Closes one direction behind what was sent; when that arrives.
    pub(crate) fn close(&mut self, way: Direction, now_us: u64, random: &mut Random) -> Option<u64> {
        if self.is_dead || self.lanes[way as usize].is_closed {
            return None;
        }
        let arrives_us = self.push(way, Arrival::End, now_us, random);
        self.lanes[way as usize].is_closed = true;
        Some(arrives_us)
    }

    /// Breaks the connection at any byte of what is on its way; when both ends see it.
    pub(crate) fn cut(&mut self, way: Direction, now_us: u64, random: &mut Random) -> Option<u64> {
        let lane = &mut self.lanes[way as usize];
        let mut left = random.below(lane.bytes() + 1);
        lane.arriving.retain_mut(|(_, arrival)| {
            let Arrival::Bytes(bytes) = arrival else { return false };
            bytes.truncate(left);
            left -= bytes.len();
            !bytes.is_empty()
        });
        lane.is_closed = false;
        self.close(way, now_us, random)
    }

    /// Lets nothing through any more, without either end noticing.
    pub(crate) fn die(&mut self) {
        self.is_dead = true;
        self.lanes.iter_mut().for_each(|lane| lane.arriving.clear());
    }

    /// Arrivals until now in that direction.
    pub(crate) fn arrive(&mut self, way: Direction, now_us: u64) -> Option<Arrival> {
        let arriving = &mut self.lanes[way as usize].arriving;
        arriving.pop_front_if(|(at_us, _)| *at_us <= now_us).map(|(_, arrival)| arrival)
    }

    fn push(&mut self, way: Direction, arrival: Arrival, now_us: u64, random: &mut Random) -> u64 {
        let jitter_us = random.between(0, self.latency_us);
        let lane = &mut self.lanes[way as usize];
        lane.last_us = lane.last_us.max(now_us + self.latency_us / 2 + jitter_us);
        lane.arriving.push_back((lane.last_us, arrival));
        lane.last_us
    }
}

impl Lane {
    fn bytes(&self) -> usize {
        self.arriving.iter().map(|(_, arrival)| if let Arrival::Bytes(bytes) = arrival { bytes.len() } else { 0 }).sum()
    }
}
