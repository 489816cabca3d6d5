// Sessions of all replicas.

import { json, query } from "./api.js";
import { arrows, button, field, focusable, h, span, tell } from "./dom.js";
import { sessionsOf } from "./picture.js";

const LIMIT = 50;

/** The view. */
export function view({ to, readOnly }) {
  let [page, chosen, starts] = [null, null, [""]];
  let asked = new AbortController();
  const prefix = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const product = h("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const found = h("p", { class: "counted", id: "found", role: "status" });
  const body = h("tbody", {});
  const previous = button("Previous", () => { starts.pop(); load(); }, { disabled: true });
  const next = button("Next", () => { starts.push(page.next); load(); }, { disabled: true });
  const details = h("aside", { class: "card", id: "details", "aria-label": "The chosen session" }, h("p", { class: "hint" }, "Choose a session."));

  /** Asks for the part of the list that is to be shown. The answer to an earlier question is not waited for. */
  async function load() {
    asked.abort();
    const { signal } = asked = new AbortController();
    previous.disabled = next.disabled = true;
    try {
      page = await json(`/api/sessions?${query({ replicas: "all", limit: LIMIT, prefix: prefix.value.trim(), product: product.value.trim(), after: starts.at(-1) })}`, { signal });
    } catch (error) {
      if (!signal.aborted) found.textContent = error.message;
      return;
    }
    const { sessions, total, missing, replicas } = page;
    found.textContent = `${sessionsOf(total)} on ${replicas.length} ${replicas.length === 1 ? "replica" : "replicas"}`
      + (missing.length ? `; no answer of ${missing.join(", ")}` : "");
    previous.disabled = starts.length < 2;
    next.disabled = !page.next;
    body.replaceChildren(...sessions.map((session) => {
      const choose = h("button", { type: "button", class: "link", tabindex: "-1", onclick: () => show(session, choose) }, session.deviceId);
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, choose),
        [session.productId, session.peer, span(Date.now() - session.connectedAt), session.replicaId, String(session.worker)].map((cell) => h("td", {}, cell)),
      );
    }));
    if (!sessions.length) body.append(h("tr", {}, h("td", { colspan: 6, class: "hint" }, "No session.")));
    focusable(body.querySelectorAll("button"), body.querySelector("button"));
  }

  function show(session, row) {
    chosen = session;
    for (const other of body.querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
    row.setAttribute("aria-current", "true");
    focusable(body.querySelectorAll("button"), row);
    const rows = {
      device: session.deviceId,
      product: session.productId,
      session: session.sessionId,
      transport: session.transport,
      address: session.peer,
      "connected since": new Date(session.connectedAt).toLocaleString(),
      replica: session.replicaId,
      worker: String(session.worker),
    };
    const about = { product: session.productId, device: session.deviceId };
    const end = button("End the session", () => confirm(), { id: "kick", class: "danger", disabled: Boolean(readOnly()), "aria-describedby": "kick-why" });
    const sure = h("div", { class: "row", hidden: true });
    const confirm = () => {
      sure.replaceChildren(
        h("span", {}, "The device may connect again at once."),
        button("End it", () => kick(session, sure), { id: "kick-sure", class: "danger" }),
        button("Keep it", () => { sure.hidden = true; end.focus(); }),
      );
      sure.hidden = false;
      sure.querySelector("button").focus();
    };
    details.replaceChildren(
      h("h3", {}, session.deviceId),
      h("dl", { class: "facts" }, Object.entries(rows).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
      h(
        "div",
        { class: "row" },
        button("Messages", () => to("messages", about)),
        button("Command", () => to("command", about)),
        button("Trace", () => to("trace", { device: session.deviceId })),
        end,
      ),
      sure,
      h("p", { class: "hint", id: "kick-why" }, readOnly() || "Its cause is “kicked”."),
    );
  }

  async function kick(session, sure) {
    try {
      await json(`/api/sessions/${encodeURIComponent(session.deviceId)}?${query({ replica: session.replicaId })}`, { method: "DELETE" });
      tell(`The session of ${session.deviceId} is ended`);
    } catch (error) {
      tell(error.message);
    }
    sure.hidden = true;
    await load();
  }

  arrows(body, "button");
  const head = ["device", "product", "address", "for", "replica", "worker"];
  const root = h(
    "section",
    { "aria-labelledby": "sessions-title" },
    h("h2", { id: "sessions-title" }, "Sessions"),
    h(
      "form",
      { class: "filters", role: "search", "aria-label": "Search", onsubmit: (event) => { event.preventDefault(); starts = [""]; load(); } },
      field("Device begins with", prefix), field("Product is", product),
      h("button", { type: "submit" }, "Search"), previous, next,
    ),
    found,
    h("div", { class: "split" }, h("div", { class: "scroll" }, h("table", { id: "sessions-table" }, h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col" }, name)))), body)), details),
  );
  return { root, open: load, update: () => {
    const end = document.getElementById("kick");
    if (end && chosen) end.disabled = Boolean(readOnly());
  } };
}
