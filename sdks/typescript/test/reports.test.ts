import assert from 'node:assert/strict';
import { test } from 'node:test';

import { answer, CANARY, CONFIG, failure, json, pause, Peer, wellBehaved, type Handler } from './peer.js';
import { clientOf, setUp } from './setup.js';

const CALL = { service: 'chat', endpoint: '/api/chat' };
const METRIC = {
  timestamp: 1_699_564_800_000,
  ...CALL,
  model: 'm',
  provider: 'p',
  latencyMs: 1,
  tokensInput: 1,
  tokensOutput: 2,
  tokensTotal: 3,
  statusCode: 200,
};

test('a tracked call is reported with what the configuration says', async (t) => {
  const { client, peer } = await setUp(t);
  const result = await client.trackRequest({ ...CALL, unit: 'u' }, async (tracker) => {
    const config = await tracker.getConfig();
    await pause(20);
    tracker.setTokens({ input: 7, output: 5 });
    tracker.setCost(0.25);
    tracker.setRequestId('req-1');
    tracker.setTag('team', 'search');
    tracker.setRetries(2);
    return config.model;
  });
  assert.equal(result, CONFIG.model);
  assert.equal(await client.flush(), true);
  const [{ timestamp, latencyMs, ...rest }] = peer.metrics;
  assert.ok(Math.abs(timestamp - Date.now()) < 5_000);
  assert.ok(latencyMs >= 19 && latencyMs < 1_000, String(latencyMs));
  assert.deepEqual(rest, {
    ...CALL,
    provider: CONFIG.provider,
    model: CONFIG.model,
    tokensInput: 7,
    tokensOutput: 5,
    tokensTotal: 12,
    statusCode: 200,
    costUsd: 0.25,
    retryCount: 2,
    tags: { requestId: 'req-1', team: 'search', configVersion: 'chat@1' },
  });
});

test('what is thrown is reported as an error, and passed on', async (t) => {
  const { client, peer } = await setUp(t);
  await client.getConfig(CALL);
  const limited = Object.assign(new RangeError('slow down'), { status: 429 });
  await assert.rejects(client.trackRequest(CALL, () => Promise.reject(limited)), limited);
  await assert.rejects(client.trackRequest(CALL, () => { throw new TypeError('ours'); }), TypeError);
  await assert.rejects(client.trackRequest(CALL, () => { throw new DOMException('', 'AbortError'); }));
  await client.flush();
  assert.deepEqual(
    peer.metrics.map(({ errorType, statusCode, tokensTotal }) => [errorType, statusCode, tokensTotal]),
    [['RangeError', 429, 0], ['TypeError', 500, 0]],
  );
});

test('an incomplete call is counted as dropped, and told of', async (t) => {
  const { client, peer, warnings } = await setUp(t);
  await client.trackRequest(CALL, (tracker) => tracker.setTokens({ input: 1, output: 1 }));
  await client.trackRequest(CALL, (tracker) => tracker.setModel({ provider: 'p', model: 'm' }));
  await pause(0);
  assert.equal(client.droppedReports, 2);
  assert.match(warnings[0]!.message, /no model/);
  assert.equal(peer.seen.length, 0);
});

test('calls that run at the same time keep their own versions', async (t) => {
  const server: Handler = (seen, response) => {
    if (seen.path === '/config/stream') return json(response, ...failure('NOT_FOUND', 404));
    if (seen.method !== 'GET') return json(response, { accepted: 1, rejected: 0 });
    const canary = { version: 'chat@2', config: CANARY };
    const control = { version: 'chat@1', config: CONFIG };
    const rollout = { deploymentId: 'dep_1', trafficPercent: 50, watchedUntil: Date.now() + 60_000, control, canary };
    setTimeout(() => json(response, answer('chat@1', { rollout })), 20);
  };
  const { client, peer } = await setUp(t, server, { stream: false });
  const handle = async (unit: string): Promise<[string, string | undefined]> => {
    const { version } = await client.getConfig({ service: 'chat', unit });
    await pause(Math.random() * 10);
    await client.reportMetrics({ ...METRIC, tags: { unit } });
    return [unit, version];
  };
  const units = Array.from({ length: 30 }, (_, n) => `user-${n}`);
  // The first round waits for the server, the second is answered from memory.
  const handed = new Map(await Promise.all(units.map(handle)));
  for (const [unit, version] of await Promise.all(units.map(handle))) assert.equal(handed.get(unit), version);
  assert.equal(new Set(handed.values()).size, 2);
  assert.equal(peer.metrics.length, 60);
  for (const { tags } of peer.metrics) assert.equal(tags.configVersion, handed.get(tags.unit));
});

test("a report's own version is kept, and one of no context has none", async (t) => {
  const { client, peer } = await setUp(t);
  await client.reportMetrics(METRIC);
  await client.getConfig();
  await client.reportMetrics({ ...METRIC, tags: { configVersion: 'chat@9' } });
  await client.reportMetrics(METRIC);
  await client.reportQuality({ timestamp: 1, service: 'chat', overallScore: 9, evaluationMethod: 'x' });
  await client.reportQuality({ timestamp: 1, service: 'chat', overallScore: 9, evaluationMethod: 'x', requestId: 'r' });
  assert.deepEqual(peer.metrics.map(({ tags }) => tags?.configVersion), [undefined, 'chat@9', 'chat@1']);
  const qualities = peer.of('/quality').map(({ body }) => body.evaluations[0]);
  assert.deepEqual(qualities.map(({ configVersion }) => configVersion), ['chat@1', undefined]);
});

test('a batch that fails for now is sent again under its key, and counts once', async (t) => {
  let failures = 2;
  const { client, peer } = await setUp(t, (seen, response) => {
    if (seen.path === '/metrics' && failures-- > 0) json(response, ...failure('SERVICE_UNAVAILABLE', 503, true));
    else wellBehaved(seen, response);
  });
  queue(client, 3);
  assert.equal(await client.flush(), true);
  assert.equal(peer.of('/metrics').length, 3);
  assert.equal(new Set(peer.of('/metrics').map(({ headers }) => headers['idempotency-key'])).size, 1);
  assert.equal(peer.metrics.length, 3);
  assert.equal(client.droppedReports, 0);
});

test('what the server refuses is counted', async (t) => {
  const { client } = await setUp(t, (_, response) => json(response, { accepted: 1, rejected: 2, errors: [] }));
  queue(client, 3);
  await client.flush();
  assert.equal(client.droppedReports, 2);
  const other = await setUp(t, (_, response) => json(response, ...failure('INVALID_REQUEST', 400)));
  queue(other.client, 3);
  await other.client.flush();
  assert.equal(other.client.droppedReports, 3);
});

for (const [name, handler] of Object.entries<Handler | undefined>({
  gone: undefined,
  slow: () => undefined,
  'answering garbage': (_, response) => void response.writeHead(200).end('<html>'),
  'answering another JSON': (_, response) => json(response, {}),
})) {
  test(`server ${name}: the oldest beyond the bound are dropped and counted, the newest kept`, async (t) => {
    const peer = await Peer.start(handler);
    const { port, url } = peer;
    if (handler === undefined) await peer.close();
    const { client } = clientOf(t, { endpoint: url, queueSize: 100, timeout: 100, retries: 0 });
    const started = performance.now();
    queue(client, 250);
    assert.ok(performance.now() - started < 200);
    assert.equal(client.droppedReports, 150);
    assert.equal(await client.flush(300), false);
    const back = handler === undefined ? await Peer.start(wellBehaved, port) : peer;
    back.handler = wellBehaved;
    t.after(() => back.close());
    const had = back.metrics.length;
    assert.equal(await client.flush(10_000), true);
    const kept = back.metrics.slice(had === 0 ? 0 : -100).map(({ tokensInput }) => tokensInput);
    assert.deepEqual(kept, Array.from({ length: 100 }, (_, n) => n + 150));
    assert.equal(client.droppedReports, 150);
  });
}

test('what could not be sent by the end is counted, as is what comes after it', async (t) => {
  const { client } = await setUp(t, () => undefined, { timeout: 10_000 });
  queue(client, 5);
  await client.close(50);
  assert.equal(client.droppedReports, 5);
  queue(client, 1);
  assert.equal(client.droppedReports, 6);
});

test('a queued call costs the caller little time, and 10,000 little memory', async (t) => {
  const { client } = await setUp(t, undefined, { stream: false });
  await client.getConfig(CALL);
  queue(client, 10_000);
  await client.flush();
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  let micros = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 20; round += 1) {
    const started = performance.now(); // other work of the machine only makes rounds longer
    queue(client, 500);
    micros = Math.min(micros, ((performance.now() - started) * 1_000) / 500);
  }
  const megabytes = (process.memoryUsage().heapUsed - before) / 2 ** 20;
  t.diagnostic(`${micros.toFixed(2)} µs per queued call, ${megabytes.toFixed(1)} MB for 10,000`);
  assert.ok(micros < 10, `${micros} µs`);
  assert.ok(megabytes < 20);
  assert.equal(await client.flush(), true);
  assert.equal(client.droppedReports, 0);
});

/** Queues calls, of which the nth used n tokens. */
function queue(client: ReturnType<typeof clientOf>['client'], count: number): void {
  for (let n = 0; n < count; n += 1) {
    const tracker = client.startRequest(CALL);
    tracker.setModel({ provider: 'p', model: 'm' });
    tracker.setTokens({ input: n, output: 1 });
    tracker.end();
  }
}
