// Stories of people with the console.
//
// Usage: node stories.mjs PLAYWRIGHT CHROMIUM URL URL_WITHOUT_TOKEN TOKEN FOLDER
// Each story gets a browser of its own, so to speak: a context without anything of those before it.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [playwright, executablePath, own, other, token, folder] = process.argv.slice(2);
const { chromium } = createRequire(import.meta.url)(playwright);
const PATIENCE = 60_000;
const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** Has the test do something, and waits until it is done. */
async function ask(line) {
  say(line);
  await answers.next();
}

const report = (payload, topic = "properties/report") => ask({ ask: "report", topic, payload });

/** Waits until the question is answered with something that is true. */
async function until(what, question) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = await question();
    if (found) return found;
    assert(Date.now() < end, `in vain: ${what}`);
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

const browser = await chromium.launch({ executablePath, args: ARGUMENTS });

/** Opens the page, and where the bridge wants a token gives it. */
async function open(context, hash = "", url = own) {
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  page.on("pageerror", (error) => context.wrong.push(error.message));
  page.on("console", (message) => {
    // A refused request is what some stories are about.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) context.wrong.push(message.text());
  });
  await page.goto(`${url}/${hash}`);
  if (url === own) {
    await giveToken(page, token);
    await page.getByRole("dialog").waitFor({ state: "hidden" });
  }
  return page;
}

async function giveToken(page, value) {
  await page.locator("#ask-token").fill(value);
  await page.getByRole("button", { name: "Use it" }).click();
}

const picture = (page, name, options) => page.screenshot({ path: `${folder}/${name}.png`, ...options });
const rows = (page) => page.locator("#envelopes button");
const session = async (device, url = own) => (await (await fetch(`${url}/api/sessions?replicas=all&prefix=${device}`, { headers: { Authorization: `Bearer ${token}` } })).json()).sessions[0];

/** Finds a session and shows its details. */
async function choose(page, device) {
  await page.getByLabel("Device begins with").fill(device);
  await page.getByRole("button", { name: "Search" }).click();
  await page.locator("#sessions-table").getByRole("button", { name: device, exact: true }).click();
}

/** Has the device report that until the page shows it: a stream may begin later than its page says. */
const seen = (page, payload, text, topic) => until(`${text} is shown`, async () => {
  await report(payload, topic);
  return rows(page).filter({ hasText: text }).count();
});

const stories = {
  async "envelopes appear, and a pause holds them"(context) {
    const page = await open(context, "#messages");
    await until("the fleet reports", async () => (await rows(page).count()) > 5);
    await page.getByRole("button", { name: "Pause" }).click();
    const before = await rows(page).allTextContents();
    await report('{"properties":{"mark":"while paused"}}');
    await until("envelopes wait", async () => /[1-9]\d* wait/.test(await page.locator("#counted").textContent()));
    assert.deepEqual(await rows(page).allTextContents(), before);
    await page.getByRole("button", { name: "Pause" }).click();
    await rows(page).filter({ hasText: "while paused" }).first().click();
    assert.match(await page.locator("#envelope").textContent(), /"deviceid": "speaker1"/);
    await picture(page, "envelopes");
  },

  async "a filter lets through what it names"(context) {
    const page = await open(context, "#messages");
    await page.getByLabel("Device").fill("speaker1");
    await page.getByLabel("Type").fill("event");
    await page.getByRole("button", { name: "Filter" }).click();
    await page.locator("#stream", { hasText: "live" }).waitFor();
    await seen(page, '{"data":{"mark":"an alarm"}}', "an alarm", "event/alarm");
    await report('{"properties":{"mark":"a report"}}');
    await seen(page, '{"data":{"mark":"the last alarm"}}', "the last alarm", "event/alarm");
    for (const text of await rows(page).allTextContents()) assert.match(text, /speaker1event/);
  },

  async "an envelope is shown pretty or as it is, and copied"(context) {
    await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: own });
    const page = await open(context, "#messages");
    await seen(page, '{"properties":{"mark":"digits","n":12345678901234567890,"t":1.50}}', "digits");
    await page.getByRole("button", { name: "Pause" }).click();
    await rows(page).filter({ hasText: "digits" }).first().click();
    const envelope = page.locator("#envelope");
    assert.match(await envelope.textContent(), /\n {6}"n": 12345678901234567890,\n {6}"t": 1\.50\n/);
    await page.getByLabel("pretty").uncheck();
    const raw = await envelope.textContent();
    assert.match(raw, /^\{.*"n":12345678901234567890,"t":1\.50\}.*\}$/);
    await page.getByRole("button", { name: "Copy" }).click();
    await page.getByRole("status").filter({ hasText: "Envelope copied" }).waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), raw);
  },

  async "hostile text of devices stays text"(context) {
    const page = await open(context, "#messages");
    const hostile = `<img src=x onerror="document.title='taken'"><script>document.title='taken'</script>`;
    await seen(page, JSON.stringify({ properties: { mark: "hostile", [hostile]: hostile } }), "hostile");
    await seen(page, hostile, "rejected");
    await page.getByRole("button", { name: "Pause" }).click();
    await rows(page).filter({ hasText: "hostile" }).first().click();
    assert((await page.locator("#envelope").textContent()).includes("<img src=x onerror="));
    await rows(page).filter({ hasText: "rejected" }).first().click();
    assert.equal(await page.locator("main img, main script, main [onerror]").count(), 0);
    assert.match(await page.title(), /^Messages/);
    // An object that becomes no text by itself.
    await page.getByRole("button", { name: "Pause" }).click();
    await seen(page, '{"data":{"mark":"untold"},"message":{"toString":1,"valueOf":1}}', '"mark":"untold"}}: {"toString":1,"valueOf":1}', "event/alarm");
    assert.equal(await page.locator("#stream").textContent(), "live");
  },

  async "sessions of all replicas are found by prefix and product, part by part"(context) {
    const page = await open(context, "#sessions");
    await page.locator("#found", { hasText: "64 sessions on 2 replicas" }).waitFor();
    const listed = page.locator("#sessions-table tbody tr");
    assert.equal(await listed.count(), 50);
    await page.getByRole("button", { name: "Next" }).click();
    await until("the rest is shown", async () => (await listed.count()) === 14);
    await page.getByRole("button", { name: "guest1" }).waitFor();
    await page.getByRole("button", { name: "Previous" }).click();
    await page.getByRole("button", { name: "device10" }).waitFor();
    await page.getByLabel("Device begins with").fill("device1");
    await page.getByRole("button", { name: "Search" }).click();
    await page.locator("#found", { hasText: "11 sessions" }).waitFor();
    await page.getByLabel("Product is").fill("product9");
    await page.getByRole("button", { name: "Search" }).click();
    await page.getByText("No session.").waitFor();
  },

  async "a search shows its own answer, though an earlier one comes later"(context) {
    const page = await open(context, "#sessions");
    await page.locator("#found", { hasText: "64 sessions" }).waitFor();
    let release;
    const searched = new Promise((resolve) => { release = resolve; });
    await page.route("**/api/sessions*prefix=device*", async (route) => {
      const response = await route.fetch();
      await searched;
      await route.fulfill({ response }).catch(() => {});
    });
    const earlier = page.waitForRequest("**/api/sessions*prefix=device*");
    await page.getByLabel("Device begins with").fill("device");
    await page.getByRole("button", { name: "Search" }).click();
    const request = await earlier;
    const ended = new Promise((resolve) => {
      for (const name of ["requestfinished", "requestfailed"]) page.on(name, (other) => other === request && resolve());
    });
    await page.getByLabel("Device begins with").fill("guest1");
    await page.getByRole("button", { name: "Search" }).click();
    const guest = page.locator("#sessions-table").getByRole("button", { name: "guest1", exact: true });
    await guest.waitFor();
    release();
    await ended;
    await page.evaluate(() => new Promise(requestAnimationFrame));
    assert.match(await page.locator("#found").textContent(), /^1 session on/);
    assert.equal(await guest.count(), 1);
  },

  async "details of a session lead to its messages, a command and a trace"(context) {
    const page = await open(context, "#sessions");
    await choose(page, "guest1");
    const details = page.locator("#details");
    const { sessionId, peer, replicaId } = await session("guest1");
    for (const text of [sessionId, peer, replicaId]) assert((await details.textContent()).includes(text), text);
    await picture(page, "session");
    await details.getByRole("button", { name: "Command" }).click();
    assert.equal(await page.getByLabel("Device", { exact: true }).inputValue(), "guest1");
    await page.goBack();
    await choose(page, "guest1");
    await details.getByRole("button", { name: "Messages" }).click();
    assert.equal(await page.getByLabel("Device", { exact: true }).inputValue(), "guest1");
    await page.goBack();
    await choose(page, "guest1");
    await details.getByRole("button", { name: "Trace" }).click();
    assert.equal(await page.getByLabel("Id or address").inputValue(), "guest1");
  },

  async "a trace shows what a device does"(context) {
    const page = await open(context, "#trace");
    await page.getByLabel("Id or address").fill("speaker1");
    await page.getByRole("button", { name: "Start" }).click();
    await page.locator("#trace-state", { hasText: "live" }).waitFor();
    const lines = page.locator("#trace-lines tr");
    await until("lines of the device", async () => {
      await report('{"properties":{"mark":"traced"}}');
      return lines.filter({ hasText: "PUBACK" }).count();
    });
    const events = await lines.locator("td:nth-child(2)").allTextContents();
    const way = ["publish", "envelope", "acknowledged"].map((event) => events.indexOf(event));
    assert(way[0] >= 0 && way[0] < way[1] && way[1] < way[2], events.join());
    const devices = new Set(await lines.locator("td:nth-child(4)").allTextContents());
    devices.delete("");
    assert.deepEqual([...devices], ["speaker1"]);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.locator("#trace-state", { hasText: "stopped" }).waitFor();
    await picture(page, "trace");
  },

  async "a trace that is started while a token is tried goes on"(context) {
    const page = await context.newPage();
    await page.goto(`${own}/#trace`);
    await page.getByRole("dialog").waitFor();
    let release;
    const started = new Promise((resolve) => { release = resolve; });
    await page.route("**/api/overview", async (route) => {
      await started;
      await route.continue();
    });
    await giveToken(page, token);
    await page.getByLabel("Id or address").fill("speaker1");
    await page.getByRole("button", { name: "Start" }).click();
    await page.locator("#trace-state", { hasText: "live" }).waitFor();
    release();
    await page.getByRole("status").filter({ hasText: "Token accepted" }).waitFor();
    assert.match(await page.locator("#trace-state").textContent(), /live/);
  },

  async "a session is ended with a token, on another replica too"(context) {
    const page = await open(context, "#sessions");
    for (const device of ["device7", "guest2"]) {
      const before = await session(device);
      await choose(page, device);
      await page.getByRole("button", { name: "End the session" }).click();
      await page.getByRole("button", { name: "End it" }).click();
      await page.getByRole("status").filter({ hasText: `The session of ${device} is ended` }).waitFor();
      await until("the session is gone", async () => (await session(device))?.sessionId !== before.sessionId);
    }
  },

  async "without a token the page only reads, and the bridge takes nothing else from it"(context) {
    const page = await open(context, "#sessions", other);
    await page.getByRole("note").filter({ hasText: "admin.token is not set" }).waitFor();
    await choose(page, "reader1");
    assert(await page.getByRole("button", { name: "End the session" }).isDisabled());
    assert.match(await page.locator("#kick-why").textContent(), /Read-only/);
    await page.getByRole("link", { name: "Command" }).click();
    assert(await page.getByRole("button", { name: "Send" }).isDisabled());
    assert.match(await page.locator("#command-why").textContent(), /Read-only/);
    const status = await page.evaluate(async () => {
      const sent = { messageType: "DISCONNECT", productId: "product1", deviceId: "reader1" };
      const command = await fetch("/api/commands", { method: "POST", body: JSON.stringify(sent) });
      const kick = await fetch("/api/sessions/reader1?replicas=all", { method: "DELETE" });
      const level = await fetch("/api/log", { method: "PUT", body: '{"level":"trace"}' });
      return [command.status, kick.status, level.status];
    });
    assert.deepEqual(status, [403, 403, 403]);
    assert(await session("reader1"));
  },

  async "a wrong token is told, and the right one is forgotten with the tab"(context) {
    const page = await context.newPage();
    await page.goto(own);
    await page.getByRole("dialog").waitFor();
    await giveToken(page, "wrong");
    await page.getByRole("alert").filter({ hasText: "not the token" }).waitFor();
    await giveToken(page, token);
    await page.locator("#state", { hasText: "ready" }).waitFor();
    const kept = await page.evaluate(() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie]);
    assert.deepEqual(kept, [[token], [], ""]);
    await page.reload();
    await page.locator("#state", { hasText: "ready" }).waitFor();
    const next = await context.newPage();
    await next.goto(own);
    await next.getByRole("dialog").waitFor();
  },

  async "a command gets its reply, and stays in the history"(context) {
    const page = await open(context, "#command");
    await page.getByLabel("Product", { exact: true }).fill("product1");
    await page.getByLabel("Device", { exact: true }).fill("reader1");
    await page.getByLabel("Properties to read").fill("sn, ratio");
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator("#reply", { hasText: '"sn": "0042"' }).waitFor();
    await page.locator("#outcome", { hasText: "answered" }).waitFor();
    // This one is on another replica: its command goes by way of NATS.
    await page.getByLabel("Device", { exact: true }).fill("guest1");
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator("#reply", { hasText: '"deviceid": "guest1"' }).waitFor();
    await picture(page, "command");
    const history = page.locator("#history button");
    assert.equal(await history.count(), 2);
    await history.last().click();
    assert.match(await page.locator("#reply").textContent(), /"deviceid": "reader1"/);
    await page.getByLabel("Message type").selectOption("any, as JSON");
    await page.locator("#field-command").fill('{"messageType":"READ_PROPERTY"}');
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator("#outcome", { hasText: "productId is missing" }).waitFor();
  },

  async "a command to a device that is absent tells so"(context) {
    const page = await open(context, "#command?product=product1&device=absent1");
    await page.getByLabel("Properties to read").fill("sn");
    await page.getByRole("button", { name: "Send" }).click();
    await page.locator("#outcome", { hasText: "no replica has a session of absent1" }).waitFor();
    await page.locator("#history button", { hasText: "absent1" }).waitFor();
  },

  async "plots move"(context) {
    const page = await open(context);
    const plot = (title) => page.locator("figure", { hasText: title });
    const value = (title) => plot(title).locator("dd").first().textContent();
    await until("messages are counted", async () => Number(await value("Messages a second")) > 0);
    await until("sessions are counted", async () => Number(await value("Sessions")) >= 60);
    await until("latency is measured", async () => /\d (µs|ms|s)/.test(await value("Time to acknowledgement")));
    const line = () => plot("Messages a second").locator("path").first().getAttribute("d");
    const before = await line();
    await until("the line goes on", async () => (await line()) !== before && (await line()).split("L").length > 6);
    await page.getByRole("img", { name: /Messages: ok; Commands: ok; Registry: ok/ }).waitFor();
    await picture(page, "plots", { fullPage: true });
  },

  async "the keyboard is enough"(context) {
    const page = await open(context);
    const focused = () => page.evaluate(() => document.activeElement.textContent.trim());
    const ring = () => page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    await page.locator("#state", { hasText: "ready" }).waitFor();
    await page.reload();
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "Skip to content");
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "content");
    await page.reload();
    const way = [];
    do {
      await page.keyboard.press("Tab");
      way.push(await focused());
      assert.notEqual(await ring(), "none", way.at(-1));
    } while (way.at(-1) !== "Sessions");
    assert.deepEqual(way, ["Skip to content", "Overview", "Messages", "Sessions"]);
    await page.keyboard.press("Enter");
    await page.locator("#found", { hasText: "sessions on" }).waitFor();
    await page.keyboard.press("Tab");
    await page.keyboard.type("device1");
    await page.keyboard.press("Enter");
    await page.locator("#found", { hasText: "11 sessions" }).waitFor();
    for (let presses = 0; (await focused()) !== "device1"; presses += 1) {
      assert(presses < 6, "the list is reached");
      await page.keyboard.press("Tab");
    }
    await page.keyboard.press("ArrowDown");
    assert.equal(await focused(), "device10");
    await page.keyboard.press("Enter");
    await page.locator("#details h3", { hasText: "device10" }).waitFor();
    await page.keyboard.press("Tab");
    assert.equal(await focused(), "Messages");
  },

  async "dark and light, as the system or as chosen"(context) {
    const page = await open(context);
    const brightness = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0));
    await page.emulateMedia({ colorScheme: "light" });
    assert((await brightness()) > 600);
    await page.emulateMedia({ colorScheme: "dark" });
    assert((await brightness()) < 150);
    await until("it has drawn something", async () => (await page.locator("figure path[d^=M]").count()) > 0);
    await picture(page, "dark", { fullPage: true });
    await page.getByLabel("Theme").selectOption("light");
    assert((await brightness()) > 600);
    await page.reload();
    assert((await brightness()) > 600);
  },

  async "a page of another origin reads nothing and changes nothing"(context) {
    const before = await session("reader1");
    // A server on another port is same-site, one under another name is cross-site; both are other origins.
    const server = createServer((_, answer) => answer.end("<!doctype html><title>elsewhere</title>"));
    await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
    for (const host of ["127.0.0.1", "localhost"]) {
      const page = await context.newPage();
      await page.goto(`http://${host}:${server.address().port}/`);
      const got = await page.evaluate(async (bridge) => {
        const seen = [];
        const note = async (name, work) => {
          try {
            seen.push([name, await work()]);
          } catch {
            seen.push([name, null]);
          }
        };
        // An answer whose status can be seen can be read; that of one which cannot is 0.
        const read = (path, options) => async () => (await fetch(bridge + path, options)).status || null;
        const silent = (path, options) => read(path, { mode: "no-cors", ...options });
        for (const path of ["/", "/console/app.js", "/metrics", "/readyz", "/api/overview", "/api/sessions", "/api/envelopes"]) {
          await note(path, read(path));
          await note(`${path}, silently`, silent(path));
        }
        const command = JSON.stringify({ messageType: "DISCONNECT", productId: "product1", deviceId: "reader1" });
        await note("command", read("/api/commands", { method: "POST", body: command }));
        await note("command, silently", silent("/api/commands", { method: "POST", body: command }));
        await note("kick", read("/api/sessions/reader1", { method: "DELETE" }));
        const element = (tag, attribute, path) => () => new Promise((told) => {
          const made = document.createElement(tag);
          made.onload = () => told(tag === "iframe" ? made.contentDocument?.title ?? null : "loaded");
          made.onerror = () => told(null);
          made[attribute] = bridge + path;
          document.body.append(made);
        });
        await note("script", element("script", "src", "/console/dom.js"));
        await note("image", element("img", "src", "/console/icon.svg"));
        await note("frame", element("iframe", "src", "/"));
        const form = Object.assign(document.createElement("form"), { method: "post", action: `${bridge}/api/commands`, enctype: "text/plain", target: "sink" });
        const sink = Object.assign(document.createElement("iframe"), { name: "sink" });
        form.append(Object.assign(document.createElement("input"), { name: command.slice(0, -1) + ',"x":"', value: '"}' }));
        document.body.append(sink, form);
        await note("form", () => new Promise((told) => {
          sink.onload = () => told(null);
          form.submit();
        }));
        return seen;
      }, other);
      assert.deepEqual(got.filter(([, value]) => value !== null), [], host);
      assert.equal(got.length, 21);
      await page.close();
    }
    server.close();
    // What no browser would send is refused as well.
    for (const headers of [{ Origin: "http://attacker.example" }, { "Sec-Fetch-Site": "cross-site" }, { "Sec-Fetch-Site": "same-site" }]) {
      for (const [path, method] of [["/api/sessions", "GET"], ["/api/overview", "GET"], ["/api/envelopes", "GET"], ["/api/sessions/reader1", "DELETE"], ["/api/commands", "POST"]]) {
        assert.equal((await raw(other + path, method, headers)), 403, `${method} ${path} ${JSON.stringify(headers)}`);
      }
    }
    assert.equal((await session("reader1")).sessionId, before.sessionId);
  },

  async "a queue that is away shows"(context) {
    const page = await open(context);
    await page.locator("#state", { hasText: "ready" }).waitFor();
    await ask({ ask: "stop the queue" });
    await page.locator("#state", { hasText: "messages: does not answer" }).waitFor();
    await page.getByRole("img", { name: /Messages: does not answer/ }).waitFor();
    await until("messages wait", async () => Number(await page.locator("figure", { hasText: "Unacknowledged" }).locator("dd").textContent()) > 0);
    await picture(page, "away", { fullPage: true });
  },
};

/** Status of a request with headers that `fetch` sets itself. */
async function raw(url, method, headers) {
  const { request } = await import("node:http");
  return new Promise((told, failed) => {
    const sent = request(url, { method, headers }, (answer) => {
      answer.destroy();
      told(answer.statusCode);
    });
    sent.on("error", failed);
    sent.end();
  });
}

for (const [story, tell] of Object.entries(stories)) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 } });
  context.wrong = [];
  let result = "well";
  const begin = performance.now();
  try {
    await tell(context);
    assert.deepEqual(context.wrong, [], "the page has errors");
  } catch (error) {
    result = String(error.stack ?? error);
    const page = context.pages().at(-1);
    await page?.screenshot({ path: `${folder}/failed.png` }).catch(() => {});
  }
  await context.close();
  say({ story, result, seconds: (performance.now() - begin) / 1000 });
}
await browser.close();
process.exit(0);
