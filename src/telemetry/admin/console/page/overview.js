// The first view: how it goes, as a picture, as plots and as tables.

import { text } from "./api.js";
import { h, span, state } from "./dom.js";
import { quantile, rate, read } from "./metrics.js";
import { inWords, picture, silent } from "./picture.js";
import { plot } from "./plot.js";

/** Samples between which quantiles of latency are taken. */
const LATENCY_SAMPLES = 10;

const perSecond = (value) => (value >= 100 ? Math.round(value).toString() : value.toFixed(value >= 10 ? 0 : 1).replace(/\.0$/, ""));
const count = (value) => Math.round(value).toString();
const seconds = (value) => {
  if (value === 0) return "0";
  if (value < 0.001) return `${Math.round(value * 1e6)} µs`;
  return value < 1 ? `${(value * 1000).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(1)} s`;
};

const plots = {
  rates: plot("Messages a second", [{ name: "received", text: perSecond }, { name: "acknowledged", text: perSecond }]),
  latency: plot("Time to acknowledgement", [{ name: "p50", text: seconds }, { name: "p99", text: seconds }]),
  sessions: plot("Sessions", [{ name: "sessions", text: count }], true),
  unacknowledged: plot("Unacknowledged messages", [{ name: "on their way to the queue", text: count }], true),
};
const samples = [];

/** Reads /metrics; called once a second, whichever view is open. */
export async function sample() {
  const last = read(await text("/metrics"));
  samples.push(last);
  if (samples.length > LATENCY_SAMPLES + 1) samples.shift();
  const before = samples.at(-2);
  if (!before) return;
  plots.rates.add([rate(before, last, "messages_total"), rate(before, last, "stored_total")]);
  plots.latency.add([0.5, 0.99].map((part) => quantile(samples[0], last, part)));
  plots.sessions.add([last.sums.sessions ?? 0]);
  plots.unacknowledged.add([last.sums.inflight_messages ?? 0]);
}

function table(caption, heads, rows, none) {
  const head = h("tr", {}, heads.map((name) => h("th", { scope: "col" }, name)));
  const body = rows.length ? rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))) : [h("tr", {}, h("td", { colspan: heads.length, class: "hint" }, none))];
  return h("div", { class: "card" }, h("h3", {}, caption), h("table", {}, h("thead", {}, head), h("tbody", {}, body)));
}

function expiry({ expiresAt, stale }) {
  const left = expiresAt - Date.now();
  if (left < 0) return state("away", "expired");
  if (stale) return state("away", "files cannot be used");
  return state(left < 7 * 86400e3 ? "starting" : "ok", `${span(left)} left`);
}

function tables(overview) {
  const { queues, registry, certificates, workers, replicas } = overview;
  return [
    table(
      "Queues and registry",
      ["part", "kind", "where", "state"],
      [
        ...queues.map(({ role, kind, where, state: name }) => [role, kind, h("code", {}, where), state(name, inWords(name))]),
        ["registry", registry.kind, h("code", {}, registry.where), state(registry.state, inWords(registry.state))],
        ["coordination", "", "", state(overview.coordination, inWords(overview.coordination))],
      ],
    ),
    table(
      "Replicas",
      ["replica", "sessions", "shed", "state"],
      replicas.map((replica) => [
        h("code", {}, replica.replicaId),
        replica.answered ? String(replica.sessions) : "–",
        replica.shed && replica.shed !== "none" ? replica.shed : "–",
        replica.answered ? state("ok", "answers") : state(...silent(overview)),
      ]),
    ),
    table(
      "Workers",
      ["worker", "sessions", "last run"],
      workers.map(({ worker, sessions, turnedAgo }) => [
        String(worker),
        String(sessions),
        turnedAgo == null ? state("off", "ended") : state(turnedAgo > 5000 ? "away" : "ok", turnedAgo > 5000 ? `${span(turnedAgo)} ago` : "running"),
      ]),
    ),
    table(
      "Certificates",
      ["use", "expires", "left"],
      certificates.map((certificate) => [certificate.use, new Date(certificate.expiresAt).toLocaleString(), expiry(certificate)]),
      "No certificate is in use.",
    ),
  ];
}

/** The view. */
export function view() {
  const drawing = h("div", { class: "card wide" }, "The overview is not here yet.");
  const lists = h("div", { class: "grid" });
  const root = h(
    "section",
    { "aria-labelledby": "overview-title" },
    h("h2", { id: "overview-title" }, "Overview"),
    drawing,
    h("div", { class: "grid narrow" }, Object.values(plots).map(({ figure }) => figure)),
    lists,
  );
  return {
    root,
    update(overview) {
      drawing.replaceChildren(picture(overview));
      lists.replaceChildren(...tables(overview));
    },
  };
}
