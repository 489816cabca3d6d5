// Everything that happens to one device, one product or one address, for a while.

import { follow, query } from "./api.js";
import { button, clock, field, h, state } from "./dom.js";

/** Lines that the page keeps; the oldest go first. */
const LINES_MAX = 500;

const BAD = new Set(["refused", "rejected", "foreign", "given_up"]);

/** The view. */
export function view() {
  let stop = () => {};
  const by = h("select", {}, ["device", "product", "address"].map((name) => h("option", {}, name)));
  const value = h("input", { type: "text", required: true, autocomplete: "off", spellcheck: "false" });
  const time = h("select", {}, ["1m", "5m", "15m", "1h"].map((name) => h("option", { selected: name === "5m" }, name)));
  const stream = h("span", { id: "trace-state" }, state("off", "not started"));
  const rows = h("tbody", { id: "trace-lines" });
  const ending = button("Stop", () => {
    stop();
    stream.replaceChildren(state("off", "stopped"));
    ending.disabled = true;
  }, { disabled: true });

  function take(line) {
    const found = JSON.parse(line);
    const { dropped, event, text, device, peer, replicaId } = found;
    const words = dropped ? `${dropped} lines are left out, as they came too fast` : String(text ?? "");
    rows.append(h(
      "tr",
      { class: BAD.has(event) ? "bad" : null },
      [clock(found.time), event ?? "", words, device ?? "", peer ?? "", replicaId ?? ""].map((cell) => h("td", {}, String(cell))),
    ));
    while (rows.childElementCount > LINES_MAX) rows.firstElementChild.remove();
  }

  function begin() {
    stop();
    rows.replaceChildren();
    ending.disabled = false;
    const follower = follow(`/api/trace?${query({ [by.value]: value.value.trim(), for: time.value, replicas: "all" })}`, take, (name, words) => {
      // Its time is over; another one begins by hand.
      if (words.startsWith("ended")) {
        follower();
        ending.disabled = true;
        stream.replaceChildren(state("off", "its time is over"));
      } else stream.replaceChildren(state(name, words));
    });
    stop = follower;
  }

  const root = h(
    "section",
    { "aria-label": "Trace" },
    h("h2", { id: "trace-title" }, "Trace ", stream),
    h("form", { class: "filters", "aria-label": "Trace", onsubmit: (event) => { event.preventDefault(); begin(); } },
      field("Trace by", by), field("Id or address", value), field("For", time), h("button", { type: "submit", class: "primary" }, "Start"), ending),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["time", "event", "what happened", "device", "address", "replica"].map((name) => h("th", { scope: "col" }, name)))), rows)),
  );
  return {
    root,
    open(parameters) {
      if (!parameters.get("device")) return;
      by.value = "device";
      value.value = parameters.get("device");
      begin();
    },
    close: () => ending.click(),
  };
}
