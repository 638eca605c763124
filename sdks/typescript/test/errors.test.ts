import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import * as sdk from '../src/index.js';
import { parseRetryAfter, retryDelay } from '../src/retry.js';
import { VERSION } from '../src/version.js';
import { PACKAGE } from './paths.js';
import { answer, failure, json, Peer, wellBehaved } from './peer.js';
import { clientOf, setUp } from './setup.js';

const CODES: Array<[string, number, boolean, new (...given: any[]) => sdk.OptimizerError]> = [
  ['INVALID_REQUEST', 400, false, sdk.InvalidRequestError],
  ['UNAUTHORIZED', 401, false, sdk.UnauthorizedError],
  ['FORBIDDEN', 403, false, sdk.ForbiddenError],
  ['NOT_FOUND', 404, false, sdk.NotFoundError],
  ['CONFLICT', 409, false, sdk.ConflictError],
  ['CONSTRAINT_VIOLATION', 422, false, sdk.ConstraintViolationError],
  ['RATE_LIMITED', 429, true, sdk.RateLimitedError],
  ['INTERNAL_ERROR', 500, false, sdk.InternalError],
  ['OPTIMIZATION_FAILED', 500, false, sdk.OptimizationFailedError],
  ['DEPLOYMENT_FAILED', 500, false, sdk.DeploymentFailedError],
  ['ROLLBACK_FAILED', 500, false, sdk.RollbackFailedError],
  ['DATABASE_ERROR', 503, true, sdk.DatabaseError],
  ['SERVICE_UNAVAILABLE', 503, true, sdk.ServiceUnavailableError],
  ['TIMEOUT', 504, true, sdk.ServerTimeoutError],
  ['OF_A_LATER_VERSION', 418, false, sdk.APIError],
];

for (const [code, status, retryable, kind] of CODES) {
  test(`${code} is a ${kind.name}`, async (t) => {
    const { client, peer } = await setUp(t, (_, response) => json(response, ...failure(code, status, retryable, { a: 1 })), {
      retries: 0,
    });
    await assert.rejects(client.triggerOptimization(), (error) => {
      assert.ok(error instanceof kind && error.constructor === kind);
      assert.equal(error.name, kind.name);
      assert.equal(error.message, `${code} it is`);
      assert.deepEqual(
        [error.code, error.status, error.retryable, error.requestId, error.details],
        [code, status, retryable, 'req-7', { a: 1 }],
      );
      return true;
    });
    assert.equal(peer.seen.length, 1);
  });
}

test('an answer that is not of the API is told as such', async (t) => {
  const { client, peer } = await setUp(t, (_, response) => {
    response.writeHead(200, { 'x-request-id': 'proxy-1' }).end('<html>');
  });
  await assert.rejects(client.getHealth(), (error) => {
    assert.ok(error instanceof sdk.UnexpectedAnswerError);
    assert.deepEqual([error.code, error.status, error.body, error.requestId, error.retryable], ['UNEXPECTED_ANSWER', 200, '<html>', 'proxy-1', false]);
    return true;
  });
  assert.equal(peer.seen.length, 1);
});

test('a retryable failure is tried again, all tries under one key', async (t) => {
  let tries = 0;
  const { client, peer } = await setUp(t, (seen, response) => {
    tries += 1;
    if (tries === 1) json(response, ...failure('DATABASE_ERROR', 503, true));
    else if (tries === 2) response.destroy();
    else json(response, { optimizationId: 'opt_1', status: 'queued' });
  });
  assert.deepEqual(await client.triggerOptimization({ services: ['chat'] }), { optimizationId: 'opt_1', status: 'queued' });
  assert.equal(peer.seen.length, 3);
  assert.equal(new Set(peer.seen.map(({ headers }) => headers['idempotency-key'])).size, 1);
  await client.triggerOptimization();
  assert.notEqual(peer.seen[3]!.headers['idempotency-key'], peer.seen[0]!.headers['idempotency-key']);
});

test('tries end after as many as are allowed', async (t) => {
  const { client, peer } = await setUp(t, (_, response) => json(response, ...failure('TIMEOUT', 504, true)), { retries: 1 });
  await assert.rejects(client.getStatus(), sdk.ServerTimeoutError);
  assert.equal(peer.seen.length, 2);
});

test('Retry-After is waited for', async (t) => {
  const { client, peer } = await setUp(t, (seen, response) => {
    if (peer.seen.length > 1) wellBehaved(seen, response);
    else json(response, failure('RATE_LIMITED', 429, true)[0], 429, { 'retry-after': '1' });
  });
  const started = performance.now();
  await client.getHealth();
  assert.ok(performance.now() - started >= 990);
});

test('delays grow, vary, heed the server, and end', () => {
  const error = new sdk.NoAnswerError('', { retryable: true });
  for (const [attempt, longest] of [[0, 200], [1, 400], [2, 800], [9, 8_000]] as const) {
    const delays = Array.from({ length: 50 }, () => retryDelay(error, attempt, 10)!);
    assert.ok(Math.min(...delays) >= longest / 2 && Math.max(...delays) <= longest);
    assert.ok(new Set(delays).size > 1);
  }
  assert.equal(retryDelay(error, 3, 3), undefined);
  assert.equal(retryDelay(new sdk.NoAnswerError(''), 0, 3), undefined);
  assert.equal(retryDelay(new sdk.RateLimitedError('', '', { retryable: true, retryAfter: 30_000 }), 0, 3), 30_000);
  assert.equal(retryDelay(new sdk.RateLimitedError('', '', { retryable: true, retryAfter: 61_000 }), 0, 3), undefined);
  assert.equal(parseRetryAfter('3'), 3_000);
  assert.ok(Math.abs(parseRetryAfter(new Date(Date.now() + 5_000).toUTCString())! - 5_000) < 1_100);
  assert.equal(parseRetryAfter('soon'), undefined);
});

test('a try ends after its time', async (t) => {
  const { client } = await setUp(t, () => undefined, { timeout: 100, retries: 0 });
  const started = performance.now();
  await assert.rejects(client.getHealth(), sdk.NoAnswerError);
  assert.ok(performance.now() - started < 1_000);
});

test('the key comes from the environment, and a path of the endpoint is kept', async (t) => {
  process.env.OPTIMIZER_API_KEY = ' key-of-environment\n';
  t.after(() => delete process.env.OPTIMIZER_API_KEY);
  const peer = await Peer.start((_, response) => json(response, answer()));
  t.after(() => peer.close());
  const client = new sdk.OptimizerClient({ endpoint: `${peer.url}/optimizer/` });
  await client.getPolicy('a/b');
  assert.equal(peer.seen[0]!.headers.authorization, 'Bearer key-of-environment');
  assert.equal(peer.seen[0]!.path, '/optimizer/services/a%2Fb');
  await client.close();
});

test('arguments that cannot be right are refused at once', (t) => {
  assert.throws(() => new sdk.OptimizerClient({ endpoint: 'optimizer:8080' }), TypeError);
  assert.throws(() => new sdk.OptimizerClient({ endpoint: 'http://optimizer', apiKey: 'a\nb' }), TypeError);
  const { client } = clientOf(t, { endpoint: 'http://127.0.0.1:9' });
  assert.throws(() => client.getCurrentConfig({ endpoint: '/api/chat' }), TypeError);
});

test('the user agent tells the version of the package', () => {
  assert.equal(JSON.parse(readFileSync(`${PACKAGE}/package.json`, 'utf8')).version, VERSION);
});
