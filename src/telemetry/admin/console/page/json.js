// JSON as text: digits stay as they were written, which JSON.parse does not promise.

/** The text with line breaks and indentation; anything that is no JSON stays as it is. */
export function pretty(text) {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g);
  tokens.forEach((token, index) => {
    const opens = token === "{" || token === "[";
    const closes = token === "}" || token === "]";
    const isEmpty = opens ? /[}\]]/.test(tokens[index + 1][0]) : closes && /[{[]/.test(tokens[index - 1][0]);
    if (opens) depth += 1;
    if (closes) depth -= 1;
    if (closes && !isEmpty) out += line();
    out += token === ":" ? ": " : token;
    if (token === "," || (opens && !isEmpty)) out += line();
  });
  return out;
}

/** A value that was read from JSON, in words. What a device wrote may be of any shape, and an object that has a `toString` of its own
 * becomes no text by itself. */
export const words = (value) => (value == null ? "" : typeof value === "string" ? value : JSON.stringify(value));

/** The text of the last member of an object, whose name is given. */
export function lastMember(text, name) {
  const key = `"${name}":`;
  const at = text.indexOf(key);
  return at < 0 ? text : text.slice(at + key.length, text.lastIndexOf("}"));
}
