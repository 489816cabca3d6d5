//! The cost of a message over the number of devices, as a plot.

use std::fmt::Write as _;

use crate::json::Results;
use crate::load::Load;
use crate::peer::Peer;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
/// Space around the plot, where numbers and names stand.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 52.0;
/// Readable on white and on black.
const COLOURS: [&str; 8] = ["#57606a", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#cf222e"];

/// Draws a line for each server: medians over rounds, in the order of loads. The number of devices grows by factors.
pub(crate) fn draw(results: &Results<'_>) -> String {
    let loads = &results.options.loads;
    let lines: Vec<(Peer, Vec<(Load, f64)>)> = results
        .peers
        .iter()
        .map(|&peer| {
            (peer, loads.iter().filter_map(|&load| Some((load, results.table.server_us(load, peer)?))).collect())
        })
        .collect();
    let greatest = lines.iter().flat_map(|(_, points)| points).map(|(_, us)| *us).fold(1.0, f64::max);
    let step =
        [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0].into_iter().find(|step| greatest / step <= 8.0).unwrap_or(200.0);
    let top_us = (greatest / step).ceil() * step;
    let devices = |load: &Load| f64::from(load.devices.max(1)).ln();
    let least = loads.iter().map(devices).fold(f64::MAX, f64::min);
    let most = loads.iter().map(devices).fold(0.0, f64::max);
    let x = |load: &Load| LEFT + (devices(load) - least) / (most - least).max(0.1) * (WIDTH - LEFT - RIGHT);
    let y = |us: f64| HEIGHT - BOTTOM - us / top_us * (HEIGHT - TOP - BOTTOM);

    let window = loads.first().map_or(1, |load| load.window);
    let title = format!("Processor time of the server per message over connections, {window} unacknowledged each");
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"title\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <title id=\"title\">{title}</title>\n\
         <style>.page {{ fill: #ffffff }} .text {{ fill: #424a53 }} .grid {{ stroke: #d0d7de }} \
         @media (prefers-color-scheme: dark) {{ .page {{ fill: #0d1117 }} .text {{ fill: #c9d1d9 }} .grid {{ stroke: #30363d }} }}\
         </style>\n<rect class=\"page\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n\
         <text class=\"text\" x=\"{LEFT}\" y=\"26\">{title}</text>\n"
    );
    // Writing to a text does not fail.
    let mut mark = 0.0;
    while mark <= top_us {
        let (end, at) = (WIDTH - RIGHT, y(mark));
        let _ = writeln!(svg, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        let _ = writeln!(
            svg,
            "<text class=\"text\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{mark} us</text>",
            LEFT - 6.0,
            at + 4.0
        );
        mark += step;
    }
    for load in loads {
        let _ = writeln!(
            svg,
            "<text class=\"text\" x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            x(load),
            HEIGHT - BOTTOM + 20.0,
            load.devices
        );
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = writeln!(
        svg,
        "<text class=\"text\" x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">connections</text>",
        HEIGHT - 10.0
    );
    for ((place, (peer, points)), colour) in lines.iter().enumerate().zip(COLOURS.iter().cycle()) {
        let path: Vec<String> = points.iter().map(|(load, us)| format!("{:.1},{:.1}", x(load), y(*us))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        );
        for (load, us) in points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{peer}, {load}: {us:.2} us</title></circle>",
                x(load),
                y(*us)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" fill=\"{colour}\">{peer}</text>",
            WIDTH - RIGHT + 12.0,
            TOP + 20.0 * place as f64
        );
    }
    svg.push_str("</svg>\n");
    svg
}
