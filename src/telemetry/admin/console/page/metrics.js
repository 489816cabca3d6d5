// The numbers of /metrics, and what follows from two samples of them.

const PREFIX = "jetlinks_bridge_";
const WANTED = /^jetlinks_bridge_(messages_total|stored_total|inflight_messages|sessions|commands_pending|paused_connections|acknowledgement_duration_seconds_bucket)(\{[^}]*\})? (\S+)/;

/** One sample: sums over all labels, and the buckets of the acknowledgements by their upper bound. */
export function read(page) {
  const sums = {};
  const buckets = new Map();
  for (const line of page.split("\n")) {
    if (!line.startsWith(PREFIX)) continue;
    const [, name, labels, value] = WANTED.exec(line) ?? [];
    if (!name) continue;
    if (name.endsWith("_bucket")) {
      const le = /le="([^"]+)"/.exec(labels)?.[1];
      buckets.set(le === "+Inf" ? Infinity : Number(le), Number(value));
    } else {
      sums[name] = (sums[name] ?? 0) + Number(value);
    }
  }
  return { at: performance.now(), sums, buckets };
}

/** Events a second between two samples. */
export function rate(before, after, name) {
  const seconds = (after.at - before.at) / 1000;
  const more = (after.sums[name] ?? 0) - (before.sums[name] ?? 0);
  return seconds > 0 && more >= 0 ? more / seconds : 0;
}

/** The quantile in seconds of what came between two samples, within its bucket by proportion; null: nothing came. */
export function quantile(before, after, part) {
  const bounds = [...after.buckets.keys()].sort((a, b) => a - b);
  const counts = bounds.map((bound) => after.buckets.get(bound) - (before.buckets.get(bound) ?? 0));
  const all = counts.at(-1) ?? 0;
  if (!(all > 0)) return null;
  const wanted = part * all;
  const index = counts.findIndex((count) => count >= wanted);
  const low = index > 0 ? bounds[index - 1] : 0;
  const high = bounds[index];
  if (high === Infinity) return low;
  const below = index > 0 ? counts[index - 1] : 0;
  const within = counts[index] - below;
  return within > 0 ? low + (high - low) * ((wanted - below) / within) : high;
}
