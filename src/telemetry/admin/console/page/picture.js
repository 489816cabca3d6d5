// The replicas between devices, queue and registry, as a drawing.

import { s } from "./dom.js";

const [WIDTH, BOX, ROW, REPLICAS] = [860, 200, 62, 6];
const WORDS = { ok: "ok", starting: "not reached yet", away: "does not answer", off: "not used", full: "no room", draining: "ending" };

/** A state in words. */
export const inWords = (name) => WORDS[name] ?? name;

/** A number of sessions in words. */
export const sessionsOf = (number) => `${number} ${number === 1 ? "session" : "sessions"}`;

/** State and words of another replica that did not answer: while NATS is away it may be well. */
export const silent = ({ coordination }) => (coordination === "ok" ? ["away", inWords("away")] : ["off", "not heard"]);

function box(x, y, name, title, lines) {
  const height = 30 + lines.length * 16;
  return [
    s("rect", { class: "box", "data-state": name, x, y, width: BOX, height, rx: 6 }),
    s("rect", { class: "edge", "data-state": name, x, y, width: 5, height, rx: 2 }),
    s("text", { class: "title", x: x + 16, y: y + 20 }, title),
    ...lines.map((line, index) => s("text", { x: x + 16, y: y + 38 + index * 16 }, line)),
  ];
}

function link(x1, y1, x2, y2, name) {
  const middle = (x1 + x2) / 2;
  const path = `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2 - 7} ${y2}`;
  return [
    s("path", { class: "link", "data-state": name, d: path }),
    s("path", { class: "tip", "data-state": name, d: `M${x2 - 8} ${y2 - 4}L${x2} ${y2}L${x2 - 8} ${y2 + 4}Z` }),
  ];
}

const short = (text, most = 24) => (text.length > most ? `${text.slice(0, 8)}…${text.slice(-(most - 9))}` : text);

/** The drawing of an overview. */
export function picture(overview) {
  const { replicas, queues, registry, state } = overview;
  const shown = replicas.slice(0, REPLICAS);
  const right = [
    ...queues.map((queue) => [queue.state, queue.role === "messages" ? "Messages" : "Commands", [`${queue.kind}: ${inWords(queue.state)}`]]),
    [registry.state, "Registry", [`${registry.kind}: ${inWords(registry.state)}`]],
  ];
  const rows = Math.max(shown.length + (replicas.length > REPLICAS ? 1 : 0), right.length);
  const height = rows * ROW + 10;
  const centre = (count, index) => (height - count * ROW) / 2 + index * ROW + 8;
  const sessions = replicas.reduce((sum, replica) => sum + (replica.sessions ?? 0), 0);
  const parts = [];
  const middles = shown.map((_, index) => centre(shown.length, index) + 23);
  const devices = height / 2;
  shown.forEach((replica, index) => {
    const own = replica.replicaId === overview.replicaId;
    const [silence, words] = silent(overview);
    const name = !replica.answered ? silence : own && state.draining ? "draining" : own && !state.ready ? "starting" : "ok";
    parts.push(link(BOX + 10, devices, 330, middles[index], name));
    parts.push(box(330, middles[index] - 23, name, short(replica.replicaId), [
      replica.answered ? `${sessionsOf(replica.sessions)}${own ? ", this one" : ""}` : words,
    ]));
    // The states are those that this replica sees.
    right.forEach(([to], number) => {
      const drawn = link(330 + BOX, middles[index], 650, centre(right.length, number) + 23, own ? to : "off");
      parts.push(own ? drawn : drawn.slice(0, 1));
    });
  });
  if (replicas.length > REPLICAS) {
    parts.push(s("text", { x: 346, y: height - 14 }, `and ${replicas.length - REPLICAS} more replicas`));
  }
  right.forEach(([name, title, lines], number) => parts.push(box(650, centre(right.length, number), name, title, lines)));
  parts.push(box(10, devices - 23, "ok", "Devices", [sessionsOf(sessions)]));
  const label = [
    `${sessionsOf(sessions)} of devices on ${replicas.length} ${replicas.length === 1 ? "replica" : "replicas"}`,
    ...right.map(([name, title]) => `${title}: ${inWords(name)}`),
  ].join("; ");
  return s("svg", { class: "picture", viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label }, ...parts.flat());
}
