// Elements. Text of devices becomes text nodes and attribute values, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

/** An element of HTML; attributes that begin with `on` are listeners. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** A label and the control that it names. */
export function field(label, control, hint) {
  const id = `field-${label.replace(/\W+/g, "-").toLowerCase()}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h("div", { class: "field" }, h("label", { for: id }, label), control, hint && h("p", { class: "hint", id: `${id}-hint` }, hint));
}

/** A button. */
export const button = (text, onclick, attributes) => h("button", { type: "button", onclick, ...attributes }, text);

/** A state in colour and in words. */
export const state = (name, text = name) => h("span", { class: "state", "data-state": name }, text);

let tellTimer = 0;

/** Shows a text for six seconds; screen readers read it. */
export function tell(text) {
  const status = document.getElementById("status");
  status.textContent = text;
  clearTimeout(tellTimer);
  tellTimer = setTimeout(() => { status.textContent = ""; }, 6000);
}

/** Puts text on the clipboard; pages that came over plain HTTP from another machine have the old way alone. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "off-screen", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  tell(`${what} copied`);
}

/** Time of day with milliseconds. */
export function clock(time) {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "" : `${date.toTimeString().slice(0, 8)}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** A time in words that are short enough for a table. */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** Lets the arrow keys move through the rows of a list, of which one takes the focus. */
export function arrows(list, selector) {
  list.addEventListener("keydown", (event) => {
    const rows = [...list.querySelectorAll(selector)];
    const at = rows.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to === undefined || !rows[to]) return;
    event.preventDefault();
    focusable(rows, rows[to]);
    rows[to].focus();
  });
}

/** Makes one of the rows the one that Tab leads to. */
export function focusable(rows, chosen) {
  for (const row of rows) row.tabIndex = row === chosen ? 0 : -1;
}
