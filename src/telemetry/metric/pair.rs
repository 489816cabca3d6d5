//! Counters and gauges under two labels.

use std::marker::PhantomData;

use super::family::{Kind, Metric, Sample};
use super::label::Label;
use super::scalar::Cell;

/// A number for each pair of values of two labels. One thread writes.
#[derive(Debug)]
pub struct Pairs<A: Label, B: Label> {
    cells: Box<[Cell]>,
    columns: usize,
    labels: PhantomData<(A, B)>,
}

impl<A: Label, B: Label> Default for Pairs<A, B> {
    fn default() -> Self {
        let columns = B::all().count();
        Self { cells: A::all().flat_map(|_| B::all()).map(|_| Cell::default()).collect(), columns, labels: PhantomData }
    }
}

impl<A: Label, B: Label> Pairs<A, B> {
    fn cell(&self, a: A, b: B) -> &Cell {
        &self.cells[a.index() * self.columns + b.index()]
    }

    fn labels() -> Vec<&'static str> {
        vec![A::NAME, B::NAME]
    }

    fn read(&self, slots: &mut Vec<u64>) {
        slots.extend(self.cells.iter().map(Cell::get));
    }

    fn samples(slots: &[u64], shown: impl Fn(u64) -> String) -> Vec<Sample> {
        let pairs = A::all().flat_map(|a| B::all().map(move |b| vec![a.text(), b.text()]));
        pairs.zip(slots).map(|(labels, &number)| Sample::labelled(labels, shown(number))).collect()
    }
}

/// A counter for each pair of values.
#[derive(Debug)]
pub struct CounterByTwo<A: Label, B: Label>(Pairs<A, B>);

impl<A: Label, B: Label> Default for CounterByTwo<A, B> {
    fn default() -> Self {
        Self(Pairs::default())
    }
}

impl<A: Label, B: Label> CounterByTwo<A, B> {
    /// Adds one.
    pub fn inc(&self, a: A, b: B) {
        self.0.cell(a, b).add(1);
    }
}

impl<A: Label, B: Label> Metric for CounterByTwo<A, B> {
    const KIND: Kind = Kind::Counter;

    fn labels() -> Vec<&'static str> {
        Pairs::<A, B>::labels()
    }

    fn read(&self, slots: &mut Vec<u64>) {
        self.0.read(slots);
    }

    fn samples(slots: &[u64]) -> Vec<Sample> {
        Pairs::<A, B>::samples(slots, |number| number.to_string())
    }
}

/// A gauge for each pair of values.
#[derive(Debug)]
pub struct GaugeByTwo<A: Label, B: Label>(Pairs<A, B>);

impl<A: Label, B: Label> Default for GaugeByTwo<A, B> {
    fn default() -> Self {
        Self(Pairs::default())
    }
}

impl<A: Label, B: Label> GaugeByTwo<A, B> {
    /// Adds one.
    pub fn inc(&self, a: A, b: B) {
        self.0.cell(a, b).add(1);
    }

    /// Takes one away.
    pub fn dec(&self, a: A, b: B) {
        self.0.cell(a, b).add(u64::MAX);
    }

    /// Puts a number in place.
    pub fn set(&self, a: A, b: B, number: u64) {
        self.0.cell(a, b).set(number);
    }
}

impl<A: Label, B: Label> Metric for GaugeByTwo<A, B> {
    const KIND: Kind = Kind::Gauge;

    fn labels() -> Vec<&'static str> {
        Pairs::<A, B>::labels()
    }

    fn read(&self, slots: &mut Vec<u64>) {
        self.0.read(slots);
    }

    fn samples(slots: &[u64]) -> Vec<Sample> {
        Pairs::<A, B>::samples(slots, |number| number.cast_signed().to_string())
    }
}
