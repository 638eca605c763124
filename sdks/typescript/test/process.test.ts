/** What the client does to a process's end. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';

import { PACKAGE } from './paths.js';
import { Peer, streamOf, answer, wellBehaved } from './peer.js';

const TRACK = `
  await client.trackRequest({ service: 'chat', endpoint: '/api/chat' }, (tracker) => {
    tracker.setModel({ provider: 'p', model: 'm' });
    tracker.setTokens({ input: 1, output: 1 });
  });`;

/** Runs a program that has a client; gives its exit code, output and time in ms. */
async function run(endpoint: string, program: string): Promise<{ code: number; output: string; took: number }> {
  const head = `import { OptimizerClient } from ${JSON.stringify(`file://${PACKAGE}build/src/index.js`)};
    const client = new OptimizerClient({ endpoint: ${JSON.stringify(endpoint)} });`;
  const started = performance.now();
  const child = spawn(process.execPath, ['--input-type=module', '--eval', head + program]);
  let output = '';
  child.stdout.on('data', (part) => (output += part));
  child.stderr.on('data', (part) => (output += part));
  const [code] = await once(child, 'close');
  return { code, output, took: performance.now() - started };
}

test('a program ends by itself, though a stream is open, and its reports are sent before', async (t) => {
  const peer = await Peer.start((seen, response) => {
    if (seen.path === '/config/stream') streamOf(response)(answer());
    else wellBehaved(seen, response);
  });
  t.after(() => peer.close());
  const { code, output, took } = await run(
    peer.url,
    `await client.startSync(); await new Promise((resolve) => setTimeout(resolve, 100)); ${TRACK}`,
  );
  assert.deepEqual([code, output], [0, '']);
  assert.ok(took < 4_000, `${took} ms`);
  assert.equal(peer.of('/config/stream').length, 1);
  assert.equal(peer.metrics.length, 1);
});

test('a server that takes no reports holds a program up for the time of the flush alone', async (t) => {
  const peer = await Peer.start(() => undefined);
  t.after(() => peer.close());
  const { code, output, took } = await run(
    peer.url,
    `process.on('exit', () => console.log(client.droppedReports)); ${TRACK}`,
  );
  assert.deepEqual([code, output], [0, '1\n']);
  assert.ok(took > 4_500 && took < 9_000, `${took} ms`);
});
