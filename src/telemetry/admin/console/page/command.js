// A command to a device, its outcome, and those before it.

import { json } from "./api.js";
import { button, clock, copy, field, h, state, tell } from "./dom.js";
import { pretty, words } from "./json.js";

/** Commands that the page remembers. */
const HISTORY_MAX = 50;

const TYPES = [
  "READ_PROPERTY", "WRITE_PROPERTY", "INVOKE_FUNCTION", "READ_FIRMWARE", "UPGRADE_FIRMWARE", "REQUEST_FIRMWARE_REPLY", "DIRECT", "DISCONNECT",
];

const text = (attributes) => h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });

/** JSON of a field, as it was written. */
function written(area, name, none) {
  const value = area.value.trim() || none;
  try {
    JSON.parse(value);
  } catch (error) {
    throw new Error(`${name} is no JSON: ${error.message}`);
  }
  return value;
}

/** The view. */
export function view({ readOnly }) {
  const history = [];
  const product = text({ required: true });
  const device = text({ required: true });
  const gateway = text({});
  const type = h("select", { onchange: () => adapt() }, TYPES.map((name) => h("option", {}, name)), h("option", { value: "" }, "any, as JSON"));
  const properties = text({ placeholder: "sn, temperature" });
  const values = h("textarea", { rows: 4, spellcheck: "false", placeholder: '{"interval":30}' });
  const functionId = text({ placeholder: "reboot" });
  const inputs = h("textarea", { rows: 3, spellcheck: "false", placeholder: '{"delay":5}' });
  const members = h("textarea", { rows: 5, spellcheck: "false", placeholder: "{}" });
  const whole = h("textarea", { rows: 8, spellcheck: "false" });
  const timeout = h("input", { type: "number", min: 1, step: 1, placeholder: "as configured" });
  const fields = {
    product: field("Product", product),
    device: field("Device", device),
    gateway: field("Gateway", gateway, "Of a child behind it; else empty."),
    type: field("Message type", type),
    properties: field("Properties to read", properties, "Names, with commas between."),
    values: field("Properties to write", values, "A JSON object."),
    functionId: field("Function", functionId),
    inputs: field("Inputs", inputs, "A JSON object."),
    members: field("Further members", members, "A JSON object; DIRECT has its bytes as base64 in payload."),
    whole: field("Command", whole, "The whole command, as docs/wire.md has it."),
    timeout: field("Time-out in ms", timeout),
  };
  const send = h("button", { type: "submit", class: "primary", id: "send" }, "Send");
  const why = h("p", { class: "hint", id: "command-why" });
  const controls = h("fieldset", { "aria-describedby": "command-why" }, h("legend", { class: "off-screen" }, "Command"), Object.values(fields), h("div", { class: "row" }, send));
  const outcome = h("div", { class: "card", id: "outcome", role: "status", "aria-live": "polite" }, h("p", { class: "hint" }, "The outcome comes here."));
  const list = h("ol", { class: "history", id: "history", "aria-label": "Commands sent from this page, newest first" });

  function adapt() {
    const shown = {
      READ_PROPERTY: ["properties"], WRITE_PROPERTY: ["values"], INVOKE_FUNCTION: ["functionId", "inputs"], "": ["whole"],
    }[type.value] ?? ["members"];
    const all = ["properties", "values", "functionId", "inputs", "members", "whole"];
    for (const name of all) fields[name].hidden = !shown.includes(name);
    for (const name of ["product", "device", "gateway", "timeout"]) fields[name].hidden = !type.value;
    product.required = device.required = Boolean(type.value);
    if (!type.value && !whole.value) whole.value = pretty(JSON.stringify({ messageType: "READ_PROPERTY", productId: product.value || "product1", deviceId: device.value || "device1", properties: ["sn"] }));
  }

  function compose() {
    if (!type.value) return written(whole, "the command", "");
    const parts = [["messageType", JSON.stringify(type.value)], ["productId", JSON.stringify(product.value.trim())], ["deviceId", JSON.stringify(device.value.trim())]];
    if (gateway.value.trim()) parts.push(["gatewayId", JSON.stringify(gateway.value.trim())]);
    if (type.value === "READ_PROPERTY") parts.push(["properties", JSON.stringify(properties.value.split(",").map((name) => name.trim()).filter(Boolean))]);
    else if (type.value === "WRITE_PROPERTY") parts.push(["properties", written(values, "properties", "{}")]);
    else if (type.value === "INVOKE_FUNCTION") parts.push(["functionId", JSON.stringify(functionId.value.trim())], ["inputs", written(inputs, "inputs", "{}")]);
    else {
      const further = written(members, "further members", "{}").replace(/^\{\s*|\s*\}$/g, "");
      if (further) parts.push([null, further]);
    }
    if (timeout.value) parts.push(["headers", `{"timeout":${Number(timeout.value)}}`]);
    return `{${parts.map(([name, value]) => (name ? `"${name}":${value}` : value)).join(",")}}`;
  }

  /** State and text of the row for an outcome. */
  function resultOf(envelope) {
    const { success, code, message } = envelope.data ?? {};
    if (success === false) return ["away", [code, message].map(words).filter(Boolean).join(": ") || "failed"];
    return ["ok", code === "REQUEST_HANDLING" ? "accepted; a reply may follow as a message" : "answered"];
  }

  function show(entry) {
    outcome.replaceChildren(
      h("div", { class: "row" }, state(entry.state, entry.words), h("span", { class: "hint" }, entry.took == null ? "" : `${Math.round(entry.took)} ms`)),
      ...(entry.got ? [h("pre", { id: "reply", tabindex: "0" }, pretty(entry.got)), button("Copy the outcome", () => copy(pretty(entry.got), "Outcome"))] : []),
      h("h4", {}, "Sent"), h("pre", { tabindex: "0" }, pretty(entry.sent)),
    );
  }

  function remember(entry) {
    history.unshift(entry);
    history.splice(HISTORY_MAX);
    list.replaceChildren(...history.map((one) => h(
      "li",
      {},
      h("button", { type: "button", onclick: () => show(one) }, h("time", {}, clock(one.at)), h("b", {}, one.device), h("i", {}, one.type), state(one.state, one.words)),
    )));
  }

  async function submit(event) {
    event.preventDefault();
    if (readOnly()) return;
    let sent;
    try {
      sent = compose();
    } catch (error) {
      outcome.replaceChildren(state("away", error.message));
      return;
    }
    const { messageType, deviceId } = JSON.parse(sent);
    const entry = { at: Date.now(), sent, type: String(messageType ?? ""), device: String(deviceId ?? "") };
    outcome.replaceChildren(state("starting", "waiting for the device"));
    send.disabled = true;
    const begin = performance.now();
    try {
      const envelope = await json("/api/commands", { method: "POST", body: sent, headers: { "Content-Type": "application/json" }, raw: true });
      entry.got = envelope;
      [entry.state, entry.words] = resultOf(JSON.parse(envelope));
    } catch (error) {
      [entry.state, entry.words] = ["away", error.message];
    } finally {
      send.disabled = false;
    }
    entry.took = performance.now() - begin;
    show(entry);
    remember(entry);
    tell(`${entry.type} to ${entry.device}: ${entry.words}`);
  }

  function update() {
    const reason = readOnly();
    controls.disabled = Boolean(reason);
    why.textContent = reason;
    why.hidden = !reason;
  }

  adapt();
  const root = h(
    "section",
    { "aria-labelledby": "command-title" },
    h("h2", { id: "command-title" }, "Command"),
    h("div", { class: "split" }, h("div", {}, h("form", { class: "card", onsubmit: submit }, why, controls), h("h3", {}, "History"), list), outcome),
  );
  return {
    root,
    open(parameters) {
      product.value = parameters.get("product") ?? product.value;
      device.value = parameters.get("device") ?? device.value;
      update();
    },
    update,
  };
}
