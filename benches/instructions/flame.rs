//! A flame graph of a profile: a function stands on the one that calls it, as wide as the instructions that it takes there.
//!
//! Callgrind knows what each function takes for each of its callers, not for each way to it. A function that is called from
//! several places is drawn in each with the same proportions.

use std::fmt::Write as _;

use crate::parts;
use crate::profile::{FunctionId, Profile};

const WIDTH: f64 = 1000.0;
const ROW: f64 = 18.0;
/// Narrower functions are left out, in px.
const LEAST: f64 = 4.0;
const DEPTH_MAX: usize = 24;
const TOP: f64 = 30.0;

struct Flame<'a> {
    profile: &'a Profile,
    total: f64,
    messages: f64,
    boxes: Vec<(usize, String)>,
    path: Vec<FunctionId>,
    depth: usize,
}

/// Draws the function `root` and all above it; `messages` is the number of messages that it stands for.
pub(crate) fn draw(profile: &Profile, root: FunctionId, title: &str, messages: u64) -> String {
    let total = profile.functions[root].cost() as f64;
    let mut flame = Flame { profile, total, messages: messages as f64, boxes: Vec::new(), path: Vec::new(), depth: 0 };
    flame.add(root, total, 0.0);
    let height = TOP + ROW * (flame.depth + 1) as f64 + 8.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"title\" \
         font-family=\"ui-monospace, monospace\" font-size=\"11\">\n<title id=\"title\">{title}</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"8\" y=\"19\" font-size=\"13\" font-family=\"system-ui, sans-serif\" fill=\"#1f2328\">{title}</text>\n"
    );
    let depth = flame.depth;
    for (row, text) in flame.boxes {
        let y = TOP + ROW * (depth - row) as f64;
        // Writing to a text does not fail.
        let _ = writeln!(svg, "<g transform=\"translate(0 {y})\">{text}</g>");
    }
    svg.push_str("</svg>\n");
    svg
}

impl Flame<'_> {
    /// Adds a function of that cost at that place, and those that it calls.
    fn add(&mut self, id: FunctionId, cost: f64, x: f64) {
        let width = cost / self.total * WIDTH;
        if width < LEAST || self.path.len() > DEPTH_MAX || self.path.contains(&id) {
            return;
        }
        let (row, function) = (self.path.len(), &self.profile.functions[id]);
        self.depth = self.depth.max(row);
        let name = short(&function.name);
        let shown: String = name.chars().take(((width - 6.0) / 6.7).max(0.0) as usize).collect();
        let colour = colour(parts::part(function, &function.file));
        let share = cost / self.total * 100.0;
        let each = cost / self.messages;
        self.boxes.push((
            row,
            format!(
                "<rect x=\"{x:.1}\" width=\"{:.1}\" height=\"17\" rx=\"2\" fill=\"{colour}\"><title>{}: {each:.0} \
                 instructions, {share:.1} %</title></rect><text x=\"{:.1}\" y=\"12\">{}</text>",
                width - 0.6,
                escaped(&name),
                x + 3.0,
                escaped(&shown)
            ),
        ));
        self.path.push(id);
        let scale = cost / (function.cost() as f64).max(1.0);
        let mut calls: Vec<(FunctionId, u64)> = function.calls.iter().map(|(&callee, &cost)| (callee, cost)).collect();
        calls.sort_by_key(|&(_, cost)| std::cmp::Reverse(cost));
        let mut at = x;
        for (callee, cost) in calls {
            let cost = cost as f64 * scale;
            self.add(callee, cost, at);
            at += cost / self.total * WIDTH;
        }
        self.path.pop();
    }
}

/// The last two parts of a name, without types and hash.
fn short(name: &str) -> String {
    let (mut plain, mut depth) = (String::new(), 0);
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let parts: Vec<&str> = plain.split("::").filter(|part| !part.is_empty() && !is_hash(part)).collect();
    match &parts[..] {
        [] => name.trim_start_matches('<').split(" as ").next().unwrap_or(name).to_owned(),
        [.., module, function] => format!("{module}::{function}"),
        [function] => {
            let of = name.trim_start_matches('<').split([' ', '>']).next().and_then(|path| path.rsplit("::").next());
            of.filter(|_| name.starts_with('<'))
                .map_or_else(|| (*function).to_owned(), |of| format!("{of}::{function}"))
        }
    }
}

fn is_hash(part: &str) -> bool {
    part.len() == 17 && part.starts_with('h') && part[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A colour for each part.
fn colour(part: &str) -> String {
    let place = parts::names().position(|name| name == part).unwrap_or_default();
    format!("hsl({} 70% 80%)", place * 67 % 360)
}
