//! Plots of medians over rounds, with the least and the greatest, as SVG.

use std::fmt::{self, Write as _};

use crate::table::Spread;

const WIDTH: f64 = 760.0;
/// Height of a panel's area.
const AREA: f64 = 200.0;
/// Space around an area, where numbers and names stand.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 120.0;
const TOP: f64 = 56.0;
const BELOW: f64 = 64.0;
/// From this factor between the least and the greatest value on an axis grows by factors.
const MANY_TIMES: f64 = 10.0;

/// Lines are told apart by colour, on white and on black, and by their dashes.
const STYLE: &str = ".page { fill: #ffffff } .text { fill: #1f2328 } .grid { stroke: #d0d7de } \
     .c0 { --c: #0969da } .c1 { --c: #bc4c00 } .c2 { --c: #8250df } .c3 { --c: #1a7f37 } \
     .line { fill: none; stroke: var(--c); stroke-width: 2 } .dot, .name { fill: var(--c) } \
     .c1 .line { stroke-dasharray: 8 3 } .c2 .line { stroke-dasharray: 4 3 } .c3 .line { stroke-dasharray: 2 3 } \
     @media (prefers-color-scheme: dark) { .page { fill: #0d1117 } .text { fill: #e6edf3 } .grid { stroke: #30363d } \
     .c0 { --c: #58a6ff } .c1 { --c: #f0883e } .c2 { --c: #bc8cff } .c3 { --c: #3fb950 } }";

/// Panels one below the other, over the same values.
pub(crate) struct Plot<'a> {
    /// Stands above all.
    pub(crate) title: &'a str,
    /// What the values are.
    pub(crate) label: &'a str,
    /// The values, ascending.
    pub(crate) values: &'a [u32],
    /// From the top.
    pub(crate) panels: Vec<Panel<'a>>,
}

/// Lines of one unit.
pub(crate) struct Panel<'a> {
    /// What the lines are, with their unit.
    pub(crate) title: &'a str,
    /// Lines by name: for each value of the plot a point, if it was measured.
    pub(crate) lines: Vec<(&'a str, Vec<Option<Spread>>)>,
    /// Whether the axis begins at 0; else it grows by factors.
    pub(crate) from_zero: bool,
}

/// A straight or logarithmic axis: from values to places between 0 and 1, and its marks.
struct Axis {
    from: f64,
    to: f64,
    by_factors: bool,
    marks: Vec<f64>,
}

impl Axis {
    /// An axis of exactly these values.
    fn of_values(values: &[u32]) -> Self {
        let marks: Vec<f64> = values.iter().map(|&value| f64::from(value)).collect();
        let (from, to) = (marks.first().copied().unwrap_or(0.0), marks.last().copied().unwrap_or(1.0));
        Self { from, to, by_factors: from > 0.0 && to / from >= MANY_TIMES, marks }
    }

    /// From 0 to a round number above the greatest.
    fn from_zero(greatest: f64) -> Self {
        let steps = || (-3..6).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let step = steps().find(|step| greatest / step <= 6.0).unwrap_or(greatest);
        let count = (greatest / step).ceil().max(1.0);
        let marks = (0..=count as u32).map(|number| f64::from(number) * step).collect();
        Self { from: 0.0, to: count * step, by_factors: false, marks }
    }

    /// Between round numbers around the least and the greatest, which are above 0.
    fn by_factors(least: f64, greatest: f64) -> Self {
        let round: Vec<f64> =
            (-3..6).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power))).collect();
        let from = round.iter().copied().rfind(|mark| *mark <= least).unwrap_or(least);
        let to = round.iter().copied().find(|mark| *mark >= greatest).unwrap_or(greatest);
        Self {
            from,
            to,
            by_factors: true,
            marks: round.into_iter().filter(|mark| (from..=to).contains(mark)).collect(),
        }
    }

    fn place(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.by_factors { value.max(f64::MIN_POSITIVE).ln() } else { value };
        let span = scale(self.to) - scale(self.from);
        if span == 0.0 { 0.5 } else { ((scale(value) - scale(self.from)) / span).clamp(0.0, 1.0) }
    }
}

impl Plot<'_> {
    /// The picture.
    pub(crate) fn draw(&self) -> String {
        let mut svg = String::new();
        // Writing to a text does not fail.
        let _ = self.write(&mut svg);
        svg
    }

    fn write(&self, svg: &mut String) -> fmt::Result {
        let height = (TOP + AREA) * self.panels.len() as f64 + BELOW;
        let title = self.title;
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
             aria-labelledby=\"title\" font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
             <title id=\"title\">{title}</title>\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n\
             <text class=\"text\" x=\"{LEFT}\" y=\"24\" font-weight=\"600\">{title}</text>"
        )?;
        let across = Axis::of_values(self.values);
        for (place, panel) in self.panels.iter().enumerate() {
            panel.write(svg, &across, TOP + (TOP + AREA) * place as f64)?;
        }
        let bottom = height - BELOW;
        for &value in self.values {
            let x = x(&across, f64::from(value));
            let value = grouped(value);
            writeln!(
                svg,
                "<text class=\"text\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
                bottom + 20.0
            )?;
        }
        let (middle, label) = (LEFT + (WIDTH - LEFT - RIGHT) / 2.0, self.label);
        writeln!(
            svg,
            "<text class=\"text\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            bottom + 44.0
        )?;
        writeln!(svg, "</svg>")
    }
}

impl Panel<'_> {
    fn write(&self, svg: &mut String, across: &Axis, top: f64) -> fmt::Result {
        let spreads = || self.lines.iter().flat_map(|(_, points)| points).flatten();
        let greatest = spreads().map(|spread| spread.max).fold(0.001, f64::max);
        let least = spreads().map(|spread| spread.min).filter(|least| *least > 0.0).fold(greatest, f64::min);
        let up = if self.from_zero { Axis::from_zero(greatest) } else { Axis::by_factors(least, greatest) };
        let y = |value: f64| top + AREA * (1.0 - up.place(value));
        writeln!(svg, "<text class=\"text\" x=\"{LEFT}\" y=\"{}\">{}</text>", top - 10.0, self.title)?;
        for &mark in &up.marks {
            let (end, at, text) = (WIDTH - RIGHT, y(mark), (mark * 1e3).round() / 1e3);
            writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>")?;
            let (x, y) = (LEFT - 8.0, at + 4.0);
            writeln!(svg, "<text class=\"text\" x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{text}</text>")?;
        }
        for (place, (name, points)) in self.lines.iter().enumerate() {
            let points: Vec<(f64, f64, &Spread)> = points
                .iter()
                .zip(&across.marks)
                .filter_map(|(spread, &value)| spread.as_ref().map(|spread| (x(across, value), value, spread)))
                .collect();
            writeln!(svg, "<g class=\"c{}\">", place % 4)?;
            let path: Vec<String> =
                points.iter().map(|(x, _, spread)| format!("{x:.1},{:.1}", y(spread.median))).collect();
            writeln!(svg, "<polyline class=\"line\" points=\"{}\"/>", path.join(" "))?;
            for (x, value, spread) in &points {
                let (low, high, at) = (y(spread.min), y(spread.max), y(spread.median));
                writeln!(
                    svg,
                    "<line class=\"line\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke-dasharray=\"none\"/>"
                )?;
                writeln!(
                    svg,
                    "<circle class=\"dot\" cx=\"{x:.1}\" cy=\"{at:.1}\" r=\"3.5\"><title>{name}, {value}: {spread}</title></circle>"
                )?;
            }
            let (left, at) = (WIDTH - RIGHT + 12.0, top + 12.0 + 20.0 * place as f64);
            writeln!(svg, "<text class=\"name\" x=\"{left}\" y=\"{at:.1}\">{name}</text>\n</g>")?;
        }
        Ok(())
    }
}

fn x(across: &Axis, value: f64) -> f64 {
    LEFT + across.place(value) * (WIDTH - LEFT - RIGHT)
}

/// With a comma before every three digits.
fn grouped(value: u32) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
