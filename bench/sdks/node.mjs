// The TypeScript SDK's part of `bench.sdks`: prints one JSON line of figures. Its argument is the SDK's folder.
// Run with --expose-gc.

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const ROUNDS = 21;
const CALLS = 500;
const QUEUED = 10_000;
const { OptimizerClient } = await import(pathToFileURL(`${process.argv[2]}/dist/esm/index.js`).href);
const scenario = readFileSync(new URL('scenario.json', import.meta.url));

// A service under rollout, and no database for reports.
const server = createServer((request, response) => {
  request.resume();
  if (request.method === 'GET') response.writeHead(200, { 'content-type': 'application/json' }).end(scenario);
  else response.writeHead(503).end();
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

/** An LLM call that costs nothing. */
const bare = async () => 1;

const clientOf = () => new OptimizerClient({ endpoint: `http://127.0.0.1:${server.address().port}`, stream: false });

const tracked = (client) =>
  client.trackRequest({ service: 'chat', endpoint: '/api/chat', unit: 'user-1' }, async (tracker) => {
    await tracker.getConfig();
    await bare();
    tracker.setTokens({ input: 150, output: 500 });
    tracker.setCost(0.0325);
    tracker.setRequestId('550e8400-e29b-41d4-a716-446655440000');
  });

/** The best round's time per call: other work of the machine only makes rounds longer. */
async function microseconds(call) {
  const rounds = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const started = performance.now();
    for (let n = 0; n < CALLS; n += 1) await call();
    rounds.push(((performance.now() - started) / CALLS) * 1_000);
  }
  return Math.min(...rounds);
}

const client = clientOf();
await tracked(client);
const trackedUs = await microseconds(() => tracked(client));
const bareUs = await microseconds(bare);
await client.close(0);

const other = clientOf();
await tracked(other);
globalThis.gc();
const before = process.memoryUsage().heapUsed;
for (let n = 0; n < QUEUED; n += 1) await tracked(other);
globalThis.gc();
const queuedMB = (process.memoryUsage().heapUsed - before) / 1e6;
await other.close(0);
server.close();
server.closeAllConnections();
console.log(JSON.stringify({ bareUs, trackedUs, queuedMB }));
