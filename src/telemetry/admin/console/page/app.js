// The page: its views, its token, its theme, and what it asks the bridge for while it is seen.

import { access, json, token } from "./api.js";
import * as command from "./command.js";
import { tell } from "./dom.js";
import * as messages from "./messages.js";
import * as overview from "./overview.js";
import { inWords } from "./picture.js";
import * as sessions from "./sessions.js";
import * as trace from "./trace.js";

const SAMPLE_EVERY = 1000;
const OVERVIEW_EVERY = 3000;
const READ_ONLY = "Read-only: admin.token is not set, so this page sends no commands and ends no sessions.";

const find = (id) => document.getElementById(id);
const [content, notice, stateOf, ask] = ["content", "notice", "state", "ask"].map(find);

let known = null;
const bridge = {
  /** The reason why the page changes nothing; empty: it may. */
  readOnly: () => (known?.access.token === false ? READ_ONLY : ""),
  to: (name, parameters) => { location.hash = `${name}?${new URLSearchParams(parameters)}`; },
};
const makers = { overview, messages, sessions, command, trace };
const views = Object.fromEntries(Object.entries(makers).map(([name, module]) => [name, module.view(bridge)]));
let current = null;

function open() {
  const [name, parameters] = location.hash.slice(1).split("?");
  const next = views[name] ? name : "overview";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${next}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (current) views[current].close?.();
  const isMove = current !== null && current !== next;
  current = next;
  content.replaceChildren(views[next].root);
  document.title = `${views[next].root.querySelector("h2").firstChild.textContent.trim()} · jetlinks-bridge`;
  if (known) views[next].update?.(known);
  views[next].open?.(new URLSearchParams(parameters));
  if (isMove) content.focus({ preventScroll: true });
}

/** Shows the state of the bridge in the head of the page. */
function headline(name, words) {
  stateOf.dataset.state = name;
  stateOf.textContent = words;
}

async function refresh() {
  try {
    known = await json("/api/overview");
  } catch (error) {
    headline("away", error.message);
    return;
  }
  const { state, queues, registry } = known;
  const away = [...queues.map(({ role, state: name }) => [role, name]), ["registry", registry.state]].filter(([, name]) => name === "away" || name === "full");
  if (state.draining) headline("draining", "ending");
  else if (away.length) headline("away", away.map(([role, name]) => `${role}: ${inWords(name)}`).join(", "));
  else headline(state.ready ? "ok" : "starting", state.ready ? "ready" : "not ready");
  notice.hidden = !bridge.readOnly();
  notice.textContent = bridge.readOnly();
  find("token").hidden = !known.access.token;
  views[current]?.update?.(known);
}

access.denied = (reason, wasGiven) => {
  if (ask.open) return;
  find("ask-reason").textContent = wasGiven ? "That is not the token of this bridge." : reason;
  token.set("");
  find("ask-token").value = "";
  ask.showModal();
};
find("ask-form").addEventListener("submit", () => {
  token.set(find("ask-token").value.trim());
  find("ask-token").value = "";
  // At once: later it would undo what a person does meanwhile.
  open();
  refresh().then(() => {
    if (known && !ask.open) tell("Token accepted");
  });
});
find("ask-cancel").addEventListener("click", () => ask.close());
find("token").addEventListener("click", () => {
  find("ask-reason").textContent = "";
  ask.showModal();
});

const theme = find("theme");
theme.value = localStorage.getItem("jetlinks-bridge.theme") ?? "auto";
const dress = () => { document.documentElement.dataset.theme = theme.value; };
theme.addEventListener("change", () => {
  localStorage.setItem("jetlinks-bridge.theme", theme.value);
  dress();
});
dress();

/** Does something again and again while the page is seen, one at a time. */
function repeat(every, action) {
  const turn = async () => {
    if (!document.hidden && !ask.open) await action().catch(() => {});
    setTimeout(turn, every);
  };
  turn();
}

// The hash names the view, so the link may not change it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  content.focus();
});

addEventListener("hashchange", open);
open();
repeat(OVERVIEW_EVERY, refresh);
repeat(SAMPLE_EVERY, overview.sample);
