import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';

import type { LanguageModelV3, LanguageModelV3Middleware } from '@ai-sdk/provider';
import type { LanguageModelV4Middleware } from '@ai-sdk/provider-v4';
import { generateText, streamText, wrapLanguageModel } from 'ai';
import { convertArrayToReadableStream, MockLanguageModelV3 } from 'ai/test';

import { optimizerMiddleware, type OptimizerMiddlewareOptions } from '../src/ai-sdk.js';
import type { OptimizerClient } from '../src/index.js';
import { answer, CONFIG, failure, json, Peer, wellBehaved } from './peer.js';
import { clientOf, setUp } from './setup.js';

const SCOPE = { service: 'chat', endpoint: '/api/chat' };
const USAGE = {
  inputTokens: { total: 7, noCache: 7, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 5, text: 5, reasoning: 0 },
};
const STOP = { unified: 'stop', raw: 'stop' } as const;

function mock(modelId: string, more: object = {}): MockLanguageModelV3 {
  return new MockLanguageModelV3({
    provider: 'openai.chat',
    modelId,
    doGenerate: async () => ({ content: [{ type: 'text', text: `by ${modelId}` }], finishReason: STOP, usage: USAGE, warnings: [] }),
    doStream: async () => ({
      stream: convertArrayToReadableStream([
        { type: 'stream-start', warnings: [] },
        { type: 'text-start', id: '1' },
        { type: 'text-delta', id: '1', delta: 'hello' },
        { type: 'text-end', id: '1' },
        { type: 'finish', finishReason: STOP, usage: USAGE },
      ]),
    }),
    ...more,
  });
}

function wrapped(client: OptimizerClient, model: LanguageModelV3, more: Partial<OptimizerMiddlewareOptions<'v3'>> = {}): LanguageModelV3 {
  return wrapLanguageModel({ model, middleware: optimizerMiddleware(client, { ...SCOPE, ...more }) });
}

async function reported(client: OptimizerClient, peer: Peer): Promise<any[]> {
  await client.flush();
  return peer.metrics;
}

test('the middleware is of the types of both versions', (t: TestContext) => {
  const { client } = clientOf(t, { endpoint: 'http://127.0.0.1:9' });
  const v3: LanguageModelV3Middleware = optimizerMiddleware(client, SCOPE);
  const v4: LanguageModelV4Middleware = optimizerMiddleware(client, { ...SCOPE, specificationVersion: 'v4' });
  assert.deepEqual([v3.specificationVersion, v4.specificationVersion], ['v3', 'v4']);
});

test('a call is made with the configuration, and reported', async (t) => {
  const { client, peer } = await setUp(t);
  const model = mock(CONFIG.model);
  const { text } = await generateText({ model: wrapped(client, model), prompt: 'hi', temperature: 0 });
  assert.equal(text, `by ${CONFIG.model}`);
  const [given] = model.doGenerateCalls;
  assert.deepEqual([given!.temperature, given!.topP, given!.maxOutputTokens], [0, CONFIG.topP, CONFIG.maxTokens]);
  const [metric, ...more] = await reported(client, peer);
  assert.deepEqual(more, []);
  assert.deepEqual(
    [metric.provider, metric.model, metric.tokensInput, metric.tokensOutput, metric.statusCode, metric.tags],
    ['openai', CONFIG.model, 7, 5, 200, { configVersion: 'chat@1' }],
  );
});

test('a stream is passed on, and reported at its end', async (t) => {
  const { client, peer } = await setUp(t);
  const { textStream } = streamText({ model: wrapped(client, mock(CONFIG.model)), prompt: 'hi' });
  let text = '';
  for await (const part of textStream) text += part;
  assert.equal(text, 'hello');
  const [metric] = await reported(client, peer);
  assert.deepEqual([metric.tokensTotal, metric.statusCode, metric.tags.configVersion], [12, 200, 'chat@1']);
});

test('a failed call and a failed stream are reported as errors', async (t) => {
  const { client, peer } = await setUp(t);
  const fail = async (): Promise<never> => {
    throw Object.assign(new RangeError('no'), { statusCode: 429 });
  };
  const model = wrapped(client, mock(CONFIG.model, { doGenerate: fail }));
  await assert.rejects(generateText({ model, prompt: 'hi', maxRetries: 0 }), RangeError);
  const broken = async (): Promise<object> => ({
    stream: convertArrayToReadableStream([{ type: 'error', error: new TypeError('broke') }]),
  });
  await streamText({ model: wrapped(client, mock(CONFIG.model, { doStream: broken })), prompt: 'hi', onError: () => undefined }).consumeStream();
  const metrics = await reported(client, peer);
  assert.deepEqual(metrics.map(({ errorType, statusCode }) => [errorType, statusCode]), [['RangeError', 429], ['TypeError', 500]]);
});

test('a model that the configuration does not name counts for no version; one that it names is called', async (t) => {
  const { client, peer } = await setUp(t);
  await generateText({ model: wrapped(client, mock('another')), prompt: 'hi' });
  const named = mock(CONFIG.model);
  const model = wrapped(client, mock('another'), { model: (config) => (config.model === CONFIG.model ? named : undefined) });
  assert.equal((await generateText({ model, prompt: 'hi' })).text, `by ${CONFIG.model}`);
  const metrics = await reported(client, peer);
  assert.deepEqual(metrics.map((metric) => [metric.model, metric.tags.configVersion]), [['another', undefined], [CONFIG.model, 'chat@1']]);
});

test('the unit is asked for at each call', async (t) => {
  const { client, peer } = await setUp(t, (seen, response) => {
    if (seen.method !== 'GET') return wellBehaved(seen, response);
    if (seen.path === '/config/stream') return json(response, ...failure('NOT_FOUND', 404));
    const rollout = {
      deploymentId: 'dep_1', trafficPercent: 50, watchedUntil: Date.now() + 60_000,
      control: { version: 'chat@1', config: CONFIG }, canary: { version: 'chat@2', config: CONFIG },
    };
    json(response, answer('chat@1', { rollout }));
  });
  const units = Array.from({ length: 20 }, (_, n) => `user-${n}`);
  const asked = [...units];
  const model = wrapped(client, mock(CONFIG.model), { unit: () => asked.shift() });
  for (const _ of units) await generateText({ model, prompt: 'hi' });
  const versions = (await reported(client, peer)).map(({ tags }) => tags.configVersion);
  assert.deepEqual(versions, units.map((unit) => client.configFor(unit, SCOPE)!.version));
  assert.equal(new Set(versions).size, 2);
});

test('without a server the call is made as it is', async (t) => {
  const { client } = clientOf(t, { endpoint: 'http://127.0.0.1:9', retries: 0 });
  const model = mock('mine');
  assert.equal((await generateText({ model: wrapped(client, model), prompt: 'hi' })).text, 'by mine');
  assert.equal(model.doGenerateCalls[0]!.temperature, undefined);
});
