//! Counters and gauges that one thread writes and others read.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use super::family::{Kind, Metric, Sample};
use super::label::Label;

/// A number that one thread changes. Written by a second thread at the same time it would lose changes, not break.
#[derive(Debug, Default)]
pub(super) struct Cell(AtomicU64);

impl Cell {
    pub(super) fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    pub(super) fn set(&self, number: u64) {
        self.0.store(number, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Grows only. One thread writes.
#[derive(Debug, Default)]
pub struct Counter(Cell);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.add(1);
    }

    /// Adds a number.
    pub fn add(&self, more: u64) {
        self.0.add(more);
    }

    /// Takes over a number that is counted elsewhere.
    pub fn set(&self, number: u64) {
        self.0.set(number);
    }

    /// The number at this moment.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Metric for Counter {
    const KIND: Kind = Kind::Counter;

    fn labels() -> Vec<&'static str> {
        Vec::new()
    }

    fn read(&self, slots: &mut Vec<u64>) {
        slots.push(self.get());
    }

    fn samples(slots: &[u64]) -> Vec<Sample> {
        vec![Sample::plain(slots[0].to_string())]
    }
}

/// Time that grows only, shown in seconds. One thread writes.
#[derive(Debug, Default)]
pub struct Seconds(Cell);

impl Seconds {
    /// Takes over a time in microseconds that is added up elsewhere.
    pub fn set_us(&self, us: u64) {
        self.0.set(us);
    }
}

impl Metric for Seconds {
    const KIND: Kind = Kind::Counter;

    fn labels() -> Vec<&'static str> {
        Vec::new()
    }

    fn read(&self, slots: &mut Vec<u64>) {
        slots.push(self.0.get());
    }

    fn samples(slots: &[u64]) -> Vec<Sample> {
        vec![Sample::plain(format!("{}.{:06}", slots[0] / 1_000_000, slots[0] % 1_000_000))]
    }
}

/// Goes up and down. One thread writes.
#[derive(Debug, Default)]
pub struct Gauge(Cell);

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.add(1);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.add(u64::MAX);
    }

    /// Puts a number in place.
    pub fn set(&self, number: u64) {
        self.0.set(number);
    }

    /// The number at this moment.
    pub fn get(&self) -> i64 {
        self.0.get().cast_signed()
    }
}

impl Metric for Gauge {
    const KIND: Kind = Kind::Gauge;

    fn labels() -> Vec<&'static str> {
        Vec::new()
    }

    fn read(&self, slots: &mut Vec<u64>) {
        slots.push(self.0.get());
    }

    fn samples(slots: &[u64]) -> Vec<Sample> {
        vec![Sample::plain(slots[0].cast_signed().to_string())]
    }
}

/// A counter for each value of a label. One thread writes.
#[derive(Debug)]
pub struct CounterBy<L: Label> {
    cells: Box<[Cell]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for CounterBy<L> {
    fn default() -> Self {
        Self { cells: L::all().map(|_| Cell::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> CounterBy<L> {
    /// Adds one.
    pub fn inc(&self, label: L) {
        self.add(label, 1);
    }

    /// Adds a number.
    pub fn add(&self, label: L, more: u64) {
        self.cells[label.index()].add(more);
    }

    /// Takes over a number that is counted elsewhere.
    pub fn set(&self, label: L, number: u64) {
        self.cells[label.index()].set(number);
    }

    /// The number at this moment.
    pub fn get(&self, label: L) -> u64 {
        self.cells[label.index()].get()
    }
}

impl<L: Label> Metric for CounterBy<L> {
    const KIND: Kind = Kind::Counter;

    fn labels() -> Vec<&'static str> {
        vec![L::NAME]
    }

    fn read(&self, slots: &mut Vec<u64>) {
        slots.extend(self.cells.iter().map(Cell::get));
    }

    fn samples(slots: &[u64]) -> Vec<Sample> {
        let sample = |(label, number): (L, &u64)| Sample::labelled(vec![label.text()], number.to_string());
        L::all().zip(slots).map(sample).collect()
    }
}

/// A gauge for each value of a label. One thread writes.
#[derive(Debug)]
pub struct GaugeBy<L: Label> {
    cells: Box<[Cell]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for GaugeBy<L> {
    fn default() -> Self {
        Self { cells: L::all().map(|_| Cell::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> GaugeBy<L> {
    /// Adds one.
    pub fn inc(&self, label: L) {
        self.cells[label.index()].add(1);
    }

    /// Takes one away.
    pub fn dec(&self, label: L) {
        self.cells[label.index()].add(u64::MAX);
    }

    /// Puts a number in place.
    pub fn set(&self, label: L, number: u64) {
        self.cells[label.index()].set(number);
    }

    /// The number at this moment.
    pub fn get(&self, label: L) -> i64 {
        self.cells[label.index()].get().cast_signed()
    }
}

impl<L: Label> Metric for GaugeBy<L> {
    const KIND: Kind = Kind::Gauge;

    fn labels() -> Vec<&'static str> {
        vec![L::NAME]
    }

    fn read(&self, slots: &mut Vec<u64>) {
        slots.extend(self.cells.iter().map(Cell::get));
    }

    fn samples(slots: &[u64]) -> Vec<Sample> {
        let sample =
            |(label, number): (L, &u64)| Sample::labelled(vec![label.text()], number.cast_signed().to_string());
        L::all().zip(slots).map(sample).collect()
    }
}

/// A moment for each value of a label, in seconds since 1970; 0 is none, and has no line. One thread writes.
#[derive(Debug)]
pub struct TimeBy<L: Label>(GaugeBy<L>);

impl<L: Label> Default for TimeBy<L> {
    fn default() -> Self {
        Self(GaugeBy::default())
    }
}

impl<L: Label> TimeBy<L> {
    /// Puts a moment in place.
    pub fn set(&self, label: L, unix_secs: u64) {
        self.0.set(label, unix_secs);
    }
}

impl<L: Label> Metric for TimeBy<L> {
    const KIND: Kind = Kind::Gauge;

    fn labels() -> Vec<&'static str> {
        GaugeBy::<L>::labels()
    }

    fn read(&self, slots: &mut Vec<u64>) {
        self.0.read(slots);
    }

    fn samples(slots: &[u64]) -> Vec<Sample> {
        let all = GaugeBy::<L>::samples(slots).into_iter().zip(slots);
        all.filter(|(_, secs)| **secs > 0).map(|(sample, _)| sample).collect()
    }
}
