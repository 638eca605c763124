/** The requests and answers that all SDKs are held to, recorded from a real server. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { OptimizerClient, OptimizerError } from '../src/index.js';
import { toLLMConfig, type Config } from '../src/config.js';
import { REPOSITORY } from './paths.js';
import { Peer, type Handler, type Seen } from './peer.js';

interface Exchange {
  request: { method: string; path: string; query?: Record<string, unknown>; headers?: Record<string, string>; body?: unknown };
  response: { status: number; headers?: Record<string, string>; body?: unknown };
}

interface Vector {
  name: string;
  call: { method: string; arguments?: any };
  exchanges: Exchange[];
  result?: any;
  error?: Record<string, unknown>;
  retries?: number;
}

const FILE = `${REPOSITORY}/sdks/vectors/requests.json`;
const KEY = 'key-of-vectors';

/** What each method gives, by the wire's names. */
const METHODS: Record<string, (client: OptimizerClient, given: any) => Promise<any>> = {
  getConfig: async (client, given) => onTheWire(await client.getConfig(given)),
  reportMetrics: (client, given) => client.reportMetrics(given),
  reportMetricsBatch: (client, given) => client.reportMetricsBatch(given),
  reportQuality: (client, given) => client.reportQuality(given),
  queryMetrics: (client, given) => client.queryMetrics(given),
  getHistory: (client, given) => client.getHistory(given),
  triggerOptimization: (client, given) => client.triggerOptimization(given),
  getHealth: (client) => client.getHealth(),
  getStatus: (client) => client.getStatus(),
};

const { vectors } = JSON.parse(readFileSync(FILE, 'utf8')) as { vectors: Vector[] };
test('there are vectors', () => assert.ok(vectors.length > 0));
for (const vector of vectors) test(vector.name, () => replay(vector));

async function replay({ call, exchanges, result, error, retries = 3 }: Vector): Promise<void> {
  const method = METHODS[call.method];
  assert.ok(method, `no method ${call.method} is known`);
  const rest = [...exchanges];
  const wrong: unknown[] = [];
  const keys = new Set<unknown>();
  const handler: Handler = (seen, response) => {
    const exchange = rest.shift();
    try {
      assert.ok(exchange, `a request too many: ${seen.method} ${seen.path}`);
      check(seen, exchange.request);
    } catch (error_) {
      wrong.push(error_);
    }
    if (seen.method === 'POST') keys.add(seen.headers['idempotency-key']);
    const { status, headers, body } = exchange?.response ?? { status: 500 };
    const content = body === undefined || body === null ? '' : JSON.stringify(body);
    const free = Object.entries(headers ?? {}).filter(([name]) => !/^(content-length|transfer-encoding)$/i.test(name));
    response.writeHead(status, { 'content-type': 'application/json', ...Object.fromEntries(free) }).end(content);
  };
  const peer = await Peer.start(handler);
  const client = new OptimizerClient({ endpoint: peer.url, apiKey: KEY, stream: false, retries });
  try {
    const given = method(client, call.arguments ?? {});
    if (error === undefined) assertSubset(await given, result, 'result');
    else await assert.rejects(given, (thrown) => thrown instanceof OptimizerError && (assertSubset(thrown, error, 'error'), true));
  } finally {
    await client.close(0);
    await peer.close();
  }
  assert.deepEqual(wrong, []);
  assert.deepEqual(rest, [], 'exchanges that were never asked for');
  assert.ok(keys.size <= 1, 'tries of one POST under several keys');
}

function check(seen: Seen, wanted: Exchange['request']): void {
  assert.equal(seen.method, wanted.method);
  assert.equal(`/api/v1${seen.path}`, wanted.path);
  assert.deepEqual(queryOf(seen, wanted), normal(wanted.query ?? {}));
  const authorization = Object.entries(wanted.headers ?? {}).find(([name]) => name.toLowerCase() === 'authorization');
  assert.equal(seen.headers.authorization, authorization?.[1] ?? `Bearer ${KEY}`);
  assert.deepEqual(seen.body, wanted.body ?? null);
  if (seen.method === 'POST') assert.match(String(seen.headers['idempotency-key']), /^\S{8,}$/);
}

/** The query but for the instance's own random unit, where the vector names none. */
function queryOf(seen: Seen, wanted: Exchange['request']): object {
  const query: Record<string, string[]> = {};
  for (const [name, value] of seen.query) {
    if (name !== 'unit' || wanted.query?.unit !== undefined) (query[name] ??= []).push(...value.split(','));
  }
  return query;
}

/** Repeated and comma-separated values are the same to the server. */
function normal(query: Record<string, unknown>): object {
  const lists = Object.entries(query).map(([name, value]) => [name, [value].flat().flatMap((one) => String(one).split(','))]);
  return Object.fromEntries(lists);
}

function onTheWire(config: Config): object {
  return { ...config, config: toLLMConfig(config) };
}

function assertSubset(given: any, wanted: any, where: string): void {
  if (typeof wanted !== 'object' || wanted === null) {
    assert.deepEqual(given ?? null, wanted, where);
  } else if (Array.isArray(wanted)) {
    assert.equal(given?.length, wanted.length, where);
    wanted.forEach((value, index) => assertSubset(given[index], value, `${where}[${index}]`));
  } else {
    for (const [name, value] of Object.entries(wanted)) assertSubset(given?.[name], value, `${where}.${name}`);
  }
}
