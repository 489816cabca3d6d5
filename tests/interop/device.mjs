// A device on MQTT.js: reports at each QoS, answers one function, leaves.
//
// Usage: node device.mjs MODULES URL VERSION DEVICE USERNAME PASSWORD [CA]
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [modules, url, version, device, username, password, ca] = process.argv.slice(2);
const mqtt = createRequire(`${modules}/`)("mqtt");
const prefix = `/product1/${device}`;
// MQTT 3.1 by its own names: the protocol, its level, and what a WebSocket of it is called.
const versions = {
  "3.1": { protocolId: "MQIsdp", protocolVersion: 3, wsOptions: { protocol: "mqttv3.1" } },
  "3.1.1": { protocolId: "MQTT", protocolVersion: 4 },
};

function fail(reason) {
  console.error(reason);
  process.exit(1);
}
setTimeout(() => fail("it takes too long"), 60_000).unref();

const client = await mqtt.connectAsync(url, {
  ...versions[version],
  clientId: device,
  username,
  password,
  reconnectPeriod: 0,
  ca: ca && readFileSync(ca),
}).catch((error) => fail(`no session: ${error}`));
client.on("error", fail);

const answered = new Promise((resolve) => {
  client.on("message", async (topic, payload) => {
    const command = JSON.parse(payload);
    const output = command.inputs.reduce((sum, given) => sum + given.value, 0);
    const reply = { messageId: command.messageId, functionId: command.functionId, output };
    await client.publishAsync(`${topic}/reply`, JSON.stringify(reply), { qos: 1 });
    resolve();
  });
});
const [granted] = await client.subscribeAsync(`${prefix}/#`, { qos: 2 });
if (granted.qos !== 1) fail(`granted ${granted.qos}`);
for (const qos of [0, 1, 2]) {
  await client.publishAsync(`${prefix}/properties/report`, JSON.stringify({ properties: { qos } }), { qos });
}
// More than one frame of any library holds.
await client.publishAsync(`${prefix}/event/large`, JSON.stringify({ data: "x".repeat(200_000) }), { qos: 1 });
await answered;
await client.endAsync();
