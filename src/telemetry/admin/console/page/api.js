// Requests to the bridge. The token is kept in sessionStorage and sent as a bearer token, so there is nothing that a
// browser adds by itself and another site could use.

const KEY = "jetlinks-bridge.token";

/** An answer that is no success; the message is the bridge's own reason. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** Called with the reason where the bridge wants a token, or another one. */
export const access = { denied: () => {} };

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  const given = token.get();
  if (given) headers.Authorization = `Bearer ${given}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "the bridge does not answer");
  }
  if (answer.ok) return answer;
  let reason = `${answer.status} ${answer.statusText}`;
  try {
    reason = (await answer.json()).error ?? reason;
  } catch {
    // A proxy's own page.
  }
  // A person may have given another one meanwhile.
  if (answer.status === 403 && token.get() === given) access.denied(reason, Boolean(given));
  throw new Refusal(answer.status, reason);
}

/** The JSON of an answer, or with `raw` its text; null where it has none. */
export async function json(path, { raw, ...options } = {}) {
  const answer = await ask(path, options);
  if (answer.status === 204) return null;
  return raw ? answer.text() : answer.json();
}

/** The text of an answer. */
export const text = async (path, options) => (await ask(path, options)).text();

/** A query of the members that say something. */
export function query(members) {
  const given = Object.entries(members).filter(([, value]) => value);
  return given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
}

// A longer line is cut off: no envelope comes near it.
const LINE_MAX = 4 << 20;

/** Hands out the lines of an answer that goes on, until it ends or the signal says so. */
async function lines(path, signal, take, opened) {
  const answer = await ask(path, { signal });
  opened();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    if (rest.length > LINE_MAX) rest = "";
    for (const line of parts.filter((part) => part.trim())) {
      try {
        take(line);
      } catch (error) {
        // One line that the page cannot show leaves the others.
        reportError(error);
      }
    }
  }
}

/** Keeps a stream open: after an end or an outage it is asked for again. `say` takes its state in words. */
export function follow(path, take, say) {
  const stop = new AbortController();
  (async () => {
    for (let pause = 500; !stop.signal.aborted; pause = Math.min(pause * 2, 5000)) {
      try {
        await lines(path, stop.signal, take, () => {
          pause = 500;
          say("ok", "live");
        });
        say("starting", "ended, asking again");
      } catch (error) {
        if (stop.signal.aborted) return;
        say("away", error.message);
        if (error.status === 400 || error.status === 403 || error.status === 404) return;
      }
      await new Promise((wake) => setTimeout(wake, pause));
    }
  })();
  return () => stop.abort();
}
