import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';

import { NoAnswerError, NotFoundError, UnexpectedAnswerError, type Config } from '../src/index.js';
import { bucket } from '../src/assignment.js';
import { nameOf } from '../src/disk-cache.js';
import { answer, CANARY, CONFIG, failure, json, pause, Peer, rollout, streamOf, until, wellBehaved, type Handler } from './peer.js';
import { REPOSITORY } from './paths.js';
import { clientOf, setUp } from './setup.js';

const CHAT = { service: 'chat' };
const inCanary = (share: number): string => unitWhere((place) => place < share * 100);

function unitWhere(holds: (place: number) => boolean): string {
  for (let n = 0; ; n += 1) if (holds(bucket('dep_1', `unit-${n}`))) return `unit-${n}`;
}

/** Answers reads by what `body` gives at that time, and has no stream. */
const reads = (body: () => object): Handler => (seen, response) =>
  seen.path === '/config/stream' ? json(response, ...failure('NOT_FOUND', 404)) : json(response, body());

test('the configuration has its fields and its version', async (t) => {
  const { client, peer } = await setUp(t);
  const config = await client.getConfig({ service: 'chat', endpoint: '/api/chat' });
  assert.deepEqual(config, { ...CONFIG, version: 'chat@1', isCanary: false });
  assert.equal(peer.seen[0]!.path, '/config/service/chat');
  assert.equal(peer.seen[0]!.query.get('endpoint'), '/api/chat');
  assert.equal(peer.seen[0]!.headers.authorization, 'Bearer key-1');
});

test('later calls are answered from memory, and many first ones by one request', async (t) => {
  const { client, peer } = await setUp(t, undefined, { stream: false });
  await Promise.all([client.getConfig(), client.getConfig(), client.getConfig()]);
  await client.getConfig({ unit: 'user-1' });
  assert.equal(client.configFor('user-2')!.version, 'chat@1');
  assert.equal(peer.seen.length, 1);
});

test('without anything fetched, kept or given there is no current configuration', async (t) => {
  const { client, peer } = await setUp(t);
  assert.equal(client.getCurrentConfig(), undefined);
  assert.equal(client.configFor('user-1'), undefined);
  await pause(20);
  assert.equal(peer.seen.length, 0);
});

test('units are assigned by their hash, without a request', async (t) => {
  const { client, peer } = await setUp(t, reads(() => answer('chat@1', rollout(20))), { stream: false });
  const canary = await client.getConfig({ ...CHAT, unit: inCanary(20) });
  assert.deepEqual(canary, { ...CANARY, version: 'chat@2', deploymentId: 'dep_1', isCanary: true });
  for (let n = 0; n < 200; n += 1) {
    const taken = bucket('dep_1', `user-${n}`) < 2_000;
    assert.equal(client.configFor(`user-${n}`, CHAT)!.version, taken ? 'chat@2' : 'chat@1');
    assert.equal(client.configFor(`user-${n}`, CHAT)!.isCanary, taken);
  }
  assert.equal(peer.seen.length, 1);
});

test('without a unit each call is drawn by the share', async (t) => {
  const { client } = await setUp(t, reads(() => answer('chat@1', rollout(30))), { stream: false });
  let taken = 0;
  for (let n = 0; n < 4_000; n += 1) if ((await client.getConfig(CHAT)).isCanary) taken += 1;
  assert.ok(Math.abs(taken / 4_000 - 0.3) < 0.04, `${taken} of 4,000`);
});

test('a canary that nobody watches is not served, and listeners are told', async (t) => {
  const { client } = await setUp(t, reads(() => answer('chat@1', rollout(100, 1_500))), { stream: false });
  const told: Array<string | undefined> = [];
  client.on('configUpdate', (config) => told.push(config.version));
  assert.equal((await client.getConfig({ ...CHAT, unit: 'u' })).version, 'chat@2');
  await until(() => client.configFor('u', CHAT)!.version === 'chat@1', 4_000);
  await until(() => told.length === 2);
  assert.deepEqual(told, ['chat@2', 'chat@1']);
});

test('the watch is compared by the clock of the server', async (t) => {
  const behind = 3_600_000;
  const server: Handler = (_, response) => {
    const body = answer('chat@1', rollout(100, 60_000 - behind));
    json(response, body, 200, { date: new Date(Date.now() - behind).toUTCString() });
  };
  const { client } = await setUp(t, server, { stream: false });
  assert.equal((await client.getConfig({ ...CHAT, unit: 'u' })).version, 'chat@2');
});

test('the stream brings changes, and only they are told', async (t) => {
  let send: ((body: unknown) => void) | undefined;
  const server: Handler = (seen, response) => {
    if (seen.path === '/config/stream') send = streamOf(response);
    else json(response, answer());
  };
  const { client, peer } = await setUp(t, server);
  const told: Array<[Config, unknown]> = [];
  client.on('configUpdate', (config, scope) => told.push([config, scope]));
  await client.startSync({ interval: 60_000, service: 'chat', endpoint: '/api/chat' });
  await until(() => send !== undefined);
  const { query } = peer.of('/config/stream')[0]!;
  assert.deepEqual([query.get('service'), query.get('endpoint')], ['chat', '/api/chat']);
  assert.equal(query.get('unit'), peer.seen[0]!.query.get('unit'));
  send!(answer('chat@1'));
  send!(answer('chat@2', { config: CANARY }));
  await until(() => told.length === 2);
  assert.deepEqual(told.map(([config]) => config.version), ['chat@1', 'chat@2']);
  assert.deepEqual(told[1]![1], { service: 'chat', endpoint: '/api/chat' });
  assert.equal(client.getCurrentConfig({ service: 'chat', endpoint: '/api/chat' })!.model, CANARY.model);
});

test('a stream that ends is opened again, after a poll', async (t) => {
  let version = 1;
  const server: Handler = (seen, response) => {
    if (seen.path !== '/config/stream') return json(response, answer(`chat@${version}`));
    streamOf(response)(answer(`chat@${version}`));
    if (version === 1) setTimeout(() => response.destroy(), 20);
    version = 2;
  };
  const { client, peer } = await setUp(t, server);
  await client.startSync();
  await until(() => client.getCurrentConfig()!.version === 'chat@2');
  await until(() => peer.of('/config/stream').length === 2);
});

test('without a stream it is polled by ETag', async (t) => {
  let version = 'chat@1';
  const server: Handler = (seen, response) => {
    if (seen.path === '/config/stream') return json(response, ...failure('NOT_FOUND', 404));
    if (seen.headers['if-none-match'] === `"${version}"`) return void response.writeHead(304).end();
    json(response, answer(version), 200, { etag: `"${version}"` });
  };
  const { client, peer } = await setUp(t, server);
  const told: Array<string | undefined> = [];
  client.startConfigSync((config) => told.push(config.version));
  await until(() => told.length === 1);
  await client.startSync({ interval: 20 });
  await until(() => peer.of('/config/current').filter((seen) => seen.headers['if-none-match']).length > 2);
  assert.deepEqual(told, ['chat@1']);
  version = 'chat@2';
  await until(() => told.length === 2);
  assert.deepEqual(told, ['chat@1', 'chat@2']);
});

test('startConfigSync gives what is known, and its end ends the callbacks', async (t) => {
  let version = 'chat@1';
  const { client } = await setUp(t, reads(() => answer(version)), { pollInterval: 20 });
  await client.getConfig();
  const told: Array<string | undefined> = [];
  const end = client.startConfigSync((config) => told.push(config.version));
  assert.equal(told.length, 0);
  await until(() => told.length === 1);
  end();
  version = 'chat@2';
  await until(() => client.getCurrentConfig()!.version === 'chat@2');
  assert.deepEqual(told, ['chat@1']);
});

test('a listener that throws is a warning', async (t) => {
  const { client, warnings } = await setUp(t, undefined, { stream: false });
  client.on('configUpdate', () => {
    throw new Error('of the application');
  });
  await client.getConfig();
  assert.deepEqual(warnings.map((error) => error.message), ['of the application']);
});

test('nothing of the server and nothing kept: the first call fails, and later ones do at once', async (t) => {
  const { client } = clientOf(t, { endpoint: await gone(), retries: 1 });
  await assert.rejects(client.getConfig(), NoAnswerError);
  const started = performance.now();
  await assert.rejects(client.getConfig(), NoAnswerError);
  assert.ok(performance.now() - started < 50);
});

test('a scope that is not found is asked for again', async (t) => {
  let found = false;
  const server: Handler = (_, response) =>
    found ? json(response, answer()) : json(response, ...failure('NOT_FOUND', 404));
  const { client } = await setUp(t, server, { stream: false });
  await assert.rejects(client.startSync(), NotFoundError);
  await assert.rejects(client.getConfig(), NotFoundError);
  found = true;
  assert.equal((await client.getConfig()).version, 'chat@1');
});

for (const [name, fault] of Object.entries(faults())) {
  test(`server ${name}: the last configuration holds`, async (t) => {
    const { client, peer, warnings } = await setUp(t, wellBehaved, { pollInterval: 20, timeout: 200 });
    await client.getConfig();
    await fault(peer);
    await until(() => warnings.length > 2);
    const started = performance.now();
    for (let n = 0; n < 100; n += 1) assert.equal((await client.getConfig()).version, 'chat@1');
    assert.ok(performance.now() - started < 100);
    assert.equal(client.getCurrentConfig()!.version, 'chat@1');
  });

  test(`server ${name}: the default is served until it is back`, async (t) => {
    const peer = await Peer.start();
    const { port, url } = peer;
    await fault(peer);
    const { client } = clientOf(t, { endpoint: url, pollInterval: 20, timeout: 200, defaultConfig: CANARY });
    assert.deepEqual(client.getCurrentConfig(), { ...CANARY, isCanary: false });
    const started = performance.now();
    assert.equal((await client.getConfig()).model, CANARY.model);
    assert.ok(performance.now() - started < 1_000, 'one try');
    const again = performance.now();
    assert.equal((await client.getConfig()).version, undefined);
    assert.ok(performance.now() - again < 50);
    if (peer.handler === wellBehaved) {
      const back = await Peer.start(wellBehaved, port);
      t.after(() => back.close());
    } else {
      peer.handler = wellBehaved;
      t.after(() => peer.close());
    }
    await until(() => client.getCurrentConfig()!.version === 'chat@1');
  });
}

test('a folder keeps the last configuration for the next start', async (t) => {
  const folder = join(folderOf(t), 'kept');
  const { client, peer } = await setUp(t, reads(() => answer('chat@1', rollout(100))), { cacheDir: folder, stream: false });
  assert.equal((await client.getConfig(CHAT)).version, 'chat@2');
  await client.close();
  const { url } = peer;
  assert.deepEqual(readdirSync(folder), [nameOf(url, CHAT)]);
  await peer.close();

  const next = clientOf(t, { endpoint: `${url}/`, cacheDir: folder, defaultConfig: CANARY }).client;
  assert.equal(next.getCurrentConfig(CHAT)!.version, 'chat@1', 'nobody is known to watch the canary');
  assert.equal(next.getCurrentConfig()!.model, CANARY.model);
  assert.equal((await next.getConfig(CHAT)).version, 'chat@1');
  const other = clientOf(t, { endpoint: 'http://127.0.0.1:9', cacheDir: folder }).client;
  assert.equal(other.getCurrentConfig(CHAT), undefined, "another server's");
});

test('a file that is no cache is passed over, and written anew', async (t) => {
  const folder = folderOf(t);
  const peer = await Peer.start();
  t.after(() => peer.close());
  const file = join(folder, nameOf(peer.url, CHAT));
  for (const text of ['', '[]', '{"server": 1}', `{"server": "${peer.url}", "service": "chat", "version": 1}`]) {
    writeFileSync(file, text);
    const { client } = clientOf(t, { endpoint: peer.url, cacheDir: folder, stream: false });
    assert.equal(client.getCurrentConfig(CHAT), undefined);
    await client.getConfig(CHAT);
    await client.close();
    assert.equal(JSON.parse(readFileSync(file, 'utf8')).version, 'chat@1');
  }
});

test('what any SDK kept is read, and kept under the same name', (t) => {
  const folder = folderOf(t);
  const files = JSON.parse(readFileSync(`${REPOSITORY}/sdks/vectors/kept.json`, 'utf8')) as Record<string, any>;
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), JSON.stringify(content));
  const { client } = clientOf(t, { endpoint: 'http://127.0.0.1:9/', cacheDir: folder });
  for (const [name, { server, service, endpoint, version, config }] of Object.entries(files)) {
    const of = { ...(service && { service }), ...(endpoint && { endpoint }) };
    assert.equal(nameOf(server, of), name);
    assert.deepEqual(client.getCurrentConfig(of), { ...config, version, isCanary: false });
  }
});

test('past the bound the longest unused scope gives way, unless it is followed', async (t) => {
  const { client, peer } = await setUp(t, wellBehaved, { stream: false });
  await client.startSync({ service: 'watched' });
  for (let n = 0; n < 110; n += 1) await client.getConfig({ service: `s${n}` });
  assert.ok(client.getCurrentConfig({ service: 'watched' }));
  assert.ok(client.getCurrentConfig({ service: 's109' }));
  assert.equal(client.getCurrentConfig({ service: 's0' }), undefined);
  assert.equal(peer.seen.length, 111);
});

test("an answer that is not the API's is no reason to ask again at once", async (t) => {
  const { client, peer } = await setUp(t, (_, response) => void response.end('<html>'), { pollInterval: 60_000 });
  await assert.rejects(client.getConfig(), UnexpectedAnswerError);
  const asked = peer.of('/config/current').length;
  await assert.rejects(client.getConfig(), UnexpectedAnswerError);
  assert.equal(peer.of('/config/current').length, asked);
});

/** An address where nothing listens. */
async function gone(): Promise<string> {
  const peer = await Peer.start();
  const { url } = peer;
  await peer.close();
  return url;
}

function folderOf(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'optimizer-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

function faults(): Record<string, (peer: Peer) => Promise<void> | void> {
  return {
    gone: (peer) => peer.close(),
    slow: (peer) => {
      peer.handler = (seen, response) => void setTimeout(() => wellBehaved(seen, response), 10_000).unref();
    },
    'answering garbage': (peer) => {
      peer.handler = (_, response) => void response.writeHead(200, { 'content-type': 'text/event-stream' }).end('<html>{');
    },
    'answering another JSON': (peer) => {
      peer.handler = (_, response) => json(response, { version: 7, config: null });
    },
    'breaking off': (peer) => {
      peer.handler = (_, response) => {
        response.writeHead(200, { 'content-length': '1000' });
        response.write('{"version":');
        setTimeout(() => response.destroy(), 5);
      };
    },
  };
}
