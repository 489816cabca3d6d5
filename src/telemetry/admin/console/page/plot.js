// Lines over time as SVG.

import { h, s } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [300, 130, 44, 18, 8];

/** Samples that a plot keeps: five minutes of one a second. */
export const SAMPLES = 300;

/** Samples that are drawn: whole minutes, from one on. */
const drawn = (count) => Math.min(SAMPLES, Math.max(1, Math.ceil(count / 60)) * 60);

/** The smallest round number that is not below a value. */
function ceiling(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 6, 8, 10].map((step) => step * power).find((step) => step >= value * 1.0001) ?? 10 * power;
}

/** A plot of some series: `{ name, text }`, text writes a value. */
export function plot(title, series, whole = false) {
  const now = h("dl", { class: "now" });
  const drawing = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title });
  const values = series.map(() => []);
  const figures = series.map(({ name }, index) => {
    const value = h("dd", {}, "–");
    now.append(h("div", { class: `series-${index}` }, h("dt", {}, name), value));
    return value;
  });
  const figure = h("figure", { class: "plot" }, h("figcaption", {}, title), now, drawing);
  let shown = null;

  const x = (index, count) => WIDTH - 4 - ((count - 1 - index) / (drawn(count) - 1)) * (WIDTH - LEFT - 4);

  function draw() {
    const top = ceiling(Math.max(...values.flat().filter((value) => value != null), whole ? 1 : 0));
    const y = (value) => TOP + (1 - value / top) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (const part of whole && top < 4 ? [0, 1] : [0, 0.5, 1]) {
      const at = y(top * part);
      parts.push(s("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: at, y2: at }));
      parts.push(s("text", { class: "axis", x: LEFT - 6, y: at + 4, "text-anchor": "end" }, series[0].text(top * part)));
    }
    const all = drawn(values[0].length);
    for (const ago of all === 60 ? [0, 20, 40] : [0, 60, 120, 180, 240].filter((seconds) => seconds < all)) {
      const text = ago === 0 ? "now" : all === 60 ? `${ago} s` : `${ago / 60} min`;
      parts.push(s("text", { class: "axis", x: x(all - 1 - ago, all), y: HEIGHT - 4, "text-anchor": ago ? "middle" : "end" }, text));
    }
    values.forEach((samples, number) => {
      let path = "";
      let begins = true;
      samples.forEach((value, index) => {
        if (value == null) {
          begins = true;
          return;
        }
        path += `${begins ? "M" : "L"}${x(index, samples.length).toFixed(1)} ${y(value).toFixed(1)}`;
        begins = false;
      });
      parts.push(s("path", { class: `line series-${number}`, d: path }));
    });
    if (shown != null) {
      const at = x(shown, values[0].length);
      parts.push(s("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    drawing.replaceChildren(...parts);
    const index = shown ?? values[0].length - 1;
    series.forEach(({ text }, number) => {
      const value = values[number][index];
      figures[number].textContent = value == null ? "–" : text(value);
    });
    drawing.setAttribute("aria-label", `${title}: ${series.map(({ name }, number) => `${name} ${figures[number].textContent}`).join(", ")}`);
  }

  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const at = ((event.clientX - box.left) / box.width) * WIDTH;
    const index = Math.round(values[0].length - 1 - ((WIDTH - 4 - at) / (WIDTH - LEFT - 4)) * (drawn(values[0].length) - 1));
    shown = values[0][index] === undefined ? null : index;
    draw();
  });
  drawing.addEventListener("pointerleave", () => {
    shown = null;
    draw();
  });
  draw();
  return {
    figure,
    /** Adds one sample of each series and leaves out the oldest. */
    add(samples) {
      samples.forEach((sample, number) => {
        values[number].push(sample);
        if (values[number].length > SAMPLES) values[number].shift();
      });
      draw();
    },
  };
}
