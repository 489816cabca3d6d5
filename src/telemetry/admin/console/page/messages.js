// The view of live envelopes: a list, newest first, and the one that is chosen.

import { follow, query } from "./api.js";
import { arrows, button, clock, copy, field, focusable, h, state } from "./dom.js";
import { lastMember, pretty, words } from "./json.js";

/** Envelopes that the page keeps; the oldest go first. */
export const ENVELOPES_MAX = 500;

/** Characters of their JSON that the page keeps in the list, and as many of those that wait while it is paused. */
const CHARACTERS_MAX = 16 << 20;

/** Envelopes of up to so many characters are within that bound, however many the page keeps. */
const SMALL_CHARACTERS = 4096;

/** Pause between two redraws, in ms, so that a list of thousands a second stays readable. */
const DRAW_PAUSE = 200;

const TYPES = [
  "properties.report", "properties.read.reply", "properties.write.reply", "function.invoke.reply", "event", "online", "offline", "rejected",
];

/** The text of a row: what the envelope reports, and the message or detail if it says that something failed. */
function summary(data) {
  const { properties, event, output, code, message, reason, detail } = data ?? {};
  const shown = properties ?? output ?? (event ? { event, data: data.data } : null) ?? code ?? reason;
  return [shown, message ?? detail].map(words).filter(Boolean).join(": ").slice(0, 200);
}

/** Removes the oldest items until the others are within the bounds; returns those that it removed. */
function dropOldest(items) {
  let [count, characters] = [0, 0];
  while (count < items.length && count < ENVELOPES_MAX && characters <= CHARACTERS_MAX) {
    count += 1;
    characters += items[items.length - count].raw.length;
  }
  return items.splice(0, items.length - count);
}

/** One line of the stream as a row; null where it has no envelope. */
function parse(line) {
  const { envelope, replicaId, dropped } = JSON.parse(line);
  if (dropped) return { dropped };
  if (!envelope) return null;
  return {
    replicaId,
    time: envelope.recordedtime ?? envelope.time,
    type: String(envelope.type ?? "").replace(/^org\.jetlinks\.(device\.)?/, ""),
    product: envelope.productid ?? "",
    device: envelope.deviceid ?? "",
    text: summary(envelope.data),
    raw: lastMember(line, "envelope"),
  };
}

/** The view. */
export function view({ to }) {
  // Items of the list; those that are not drawn yet; and how many the bridge left out.
  let [kept, waiting, dropped] = [[], [], 0];
  // Whether the list stands still; the chosen item; ends the stream; when the list was last drawn, and the timer of the next time.
  let [isPaused, chosen, stop, drawnAt, timer] = [false, null, () => {}, 0, 0];
  const device = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const product = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const type = h("input", { type: "search", list: "types", autocomplete: "off", spellcheck: "false" });
  const stream = h("span", { id: "stream" }, state("starting", "connecting"));
  const counts = h("span", { id: "counted", class: "hint" });
  const rows = h("ol", { class: "rows", id: "envelopes", "aria-label": "Envelopes, newest first" });
  const envelopeText = h("pre", { id: "envelope", tabindex: "0", "aria-label": "Envelope" }, "Choose an envelope.");
  const prettyBox = h("input", { type: "checkbox", id: "spread", checked: true, onchange: () => showChosen() });
  const pauseButton = button("Pause", () => {
    isPaused = !isPaused;
    pauseButton.setAttribute("aria-pressed", isPaused);
    draw();
  }, { id: "pause", "aria-pressed": "false" });
  const clearButton = button("Clear", () => {
    [kept, waiting, dropped, chosen] = [[], [], 0, null];
    rows.replaceChildren();
    showChosen();
    draw();
  });
  const copyButton = button("Copy", () => copy(prettyBox.checked ? pretty(chosen.raw) : chosen.raw, "Envelope"), { id: "copy", disabled: true });
  const commandButton = button("Command", () => to("command", { product: chosen.product, device: chosen.device }), { disabled: true });

  function showChosen() {
    envelopeText.textContent = chosen ? (prettyBox.checked ? pretty(chosen.raw) : chosen.raw) : "Choose an envelope.";
    copyButton.disabled = !chosen;
    commandButton.disabled = !chosen?.device;
  }

  function choose(item) {
    chosen = item;
    for (const row of rows.querySelectorAll("[aria-current]")) row.removeAttribute("aria-current");
    item.row.setAttribute("aria-current", "true");
    focusable(rows.querySelectorAll("button"), item.row);
    showChosen();
  }

  function draw() {
    drawnAt = performance.now();
    if (!isPaused) {
      for (const item of waiting) {
        item.row = h(
          "button",
          { type: "button", tabindex: "-1", onclick: () => choose(item) },
          h("time", {}, clock(item.time)), h("b", {}, item.device || item.replicaId), h("i", {}, item.type), h("span", {}, item.text),
        );
        item.entry = h("li", { "data-type": item.type }, item.row);
        kept.push(item);
      }
      rows.prepend(...waiting.map(({ entry }) => entry).reverse());
      waiting = [];
      for (const item of dropOldest(kept)) item.entry.remove();
      if (!rows.querySelector('[tabindex="0"]')) focusable(rows.querySelectorAll("button"), rows.querySelector("button"));
    }
    const parts = [`${kept.length} kept of at most ${ENVELOPES_MAX}`];
    if (isPaused) parts.push(`${waiting.length} wait`);
    if (dropped) parts.push(`${dropped} left out, as they came too fast`);
    counts.textContent = parts.join(", ");
  }

  /** Takes one line of the stream in, and has it drawn soon. */
  function take(line) {
    const item = parse(line);
    if (!item) return;
    if (item.dropped) {
      dropped += item.dropped;
    } else {
      waiting.push(item);
      if (waiting.length > ENVELOPES_MAX) waiting.shift();
      // Small ones are within the bound of characters by their number alone.
      if (item.raw.length > SMALL_CHARACTERS) dropOldest(waiting);
    }
    if (performance.now() - drawnAt >= DRAW_PAUSE) draw();
    else {
      clearTimeout(timer);
      timer = setTimeout(draw, DRAW_PAUSE);
    }
  }

  /** Begins to follow what the filter says, in place of the stream before. */
  function begin() {
    stop();
    const filter = query({ device: device.value.trim(), product: product.value.trim(), type: type.value.trim(), replicas: "all" });
    stop = follow(`/api/envelopes?${filter}`, take, (name, text) => stream.replaceChildren(state(name, text)));
  }

  const filters = h(
    "form",
    { class: "filters", role: "search", "aria-label": "Filter", onsubmit: (event) => { event.preventDefault(); clearButton.click(); begin(); } },
    field("Device", device), field("Product", product), field("Type", type),
    h("datalist", { id: "types" }, TYPES.map((value) => h("option", { value }))),
    h("button", { type: "submit" }, "Filter"),
    pauseButton, clearButton,
  );
  arrows(rows, "button");
  const root = h(
    "section",
    { "aria-label": "Messages" },
    h("h2", { id: "messages-title" }, "Messages ", stream),
    filters,
    h("p", { class: "counted" }, counts),
    h(
      "div",
      { class: "split" },
      rows,
      h(
        "aside",
        { class: "card", "aria-label": "The chosen envelope" },
        h("div", { class: "row" }, copyButton, commandButton, h("label", { class: "check" }, prettyBox, " pretty")),
        envelopeText,
      ),
    ),
  );
  return {
    root,
    open(parameters) {
      device.value = parameters.get("device") ?? device.value;
      product.value = parameters.get("product") ?? product.value;
      begin();
      draw();
    },
    close: () => stop(),
  };
}
