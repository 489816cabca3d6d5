// Reads an AsyncAPI document with the parser of AsyncAPI: asyncapi.mjs MODULES FILE. Prints diagnostics and channels as JSON.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const [modules, file] = process.argv.slice(2);
const { Parser } = createRequire(`${modules}/`)('@asyncapi/parser');
const { document, diagnostics } = await new Parser().parse(readFileSync(file, 'utf8'), { source: file });
const channels = Object.fromEntries(
  (document?.channels().all() ?? []).map((channel) => [channel.id(), channel.messages().all().map((message) => message.id())]),
);
console.log(JSON.stringify({ diagnostics, channels }));
