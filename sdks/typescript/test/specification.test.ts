/** The snippets of the specification's sections 4.1 and 5.1, type-checked and run as they stand there. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { promisify } from 'node:util';

import { PACKAGE, REPOSITORY } from './paths.js';
import { answer, json, Peer, wellBehaved, type Handler } from './peer.js';

const DOCUMENT = readFileSync(`${REPOSITORY}/tests/specification/interfaces.md`, 'utf8');

/** The first TypeScript block below a heading. */
function snippet(heading: string): string {
  const block = /^```(?:typescript|ts)\n([\s\S]*?)^```/m.exec(DOCUMENT.slice(DOCUMENT.indexOf(`\n${heading}`)));
  assert.ok(block);
  return block[1]!;
}

/** Compiles and runs a program against the built package, word for word but for the server's address. */
async function run(t: TestContext, program: string, peer: Peer): Promise<string> {
  const folder = mkdtempSync(join(PACKAGE, 'build', 'snippet-'));
  t.after(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(PACKAGE, join(folder, 'node_modules', 'llm-auto-optimizer'));
  const file = join(folder, 'program.mts');
  writeFileSync(file, program.replaceAll('http://optimizer:8080', peer.url));
  const options = ['--strict', '--target', 'es2022', '--module', 'nodenext', '--types', 'node', '--ignoreConfig'];
  const execute = promisify(execFile);
  const compiler = join(PACKAGE, 'node_modules', 'typescript', 'bin', 'tsc');
  const compiled = await execute(process.execPath, [compiler, ...options, file]).catch((error) => error);
  assert.equal(compiled.stdout, '');
  const env = { ...process.env, OPTIMIZER_API_KEY: 'key-1' };
  const { stdout } = await execute(process.execPath, [file.replace('.mts', '.mjs')], { env });
  return stdout;
}

test('4.1, pull-based integration', async (t) => {
  const peer = await Peer.start();
  t.after(() => peer.close());
  const told = `
    import type { LLMConfig } from 'llm-auto-optimizer/client';
    function updateLLMClient(config: LLMConfig): void { console.log('told', config.model); }`;
  const output = await run(t, `${told}\n${snippet('### 4.1')}\nconsole.log('at first', config);`, peer);
  assert.match(output, /at first undefined[\s\S]*Config updated: \{[\s\S]*version: 'chat@1'[\s\S]*told gpt-4-1106-preview/);
});

test('5.1, the SDK', async (t) => {
  const answers: Record<string, object> = {
    '/analytics/metrics': { metrics: [{ metric: 'latency.p95', dataPoints: [] }] },
    '/analytics/history': { total: 0, events: [] },
    '/optimize/trigger': { optimizationId: 'opt_1', status: 'queued' },
  };
  const server: Handler = (seen, response) => {
    const body = answers[seen.path];
    if (body !== undefined) json(response, body);
    else if (seen.path === '/config/service/chat-service') json(response, answer('chat-service@3'));
    else wellBehaved(seen, response);
  };
  const peer = await Peer.start(server);
  t.after(() => peer.close());
  const told = `
    import type { LLMConfig } from 'llm-auto-optimizer';
    function updateLLMSettings(config: LLMConfig): void { console.log('told', config.model); }`;
  const shown = 'console.log(JSON.stringify([config.version, serviceConfig.version, metrics, history, result]));';
  const output = await run(t, `${told}\n${snippet('### 5.1')}\n${shown}`, peer);
  assert.deepEqual(JSON.parse(output.trim().split('\n').at(-1)!), [
    'chat@1',
    'chat-service@3',
    answers['/analytics/metrics'],
    answers['/analytics/history'],
    answers['/optimize/trigger'],
  ]);
  assert.ok(peer.seen.every(({ headers }) => headers.authorization === 'Bearer key-1'));
  const [one, batch] = peer.of('/metrics');
  assert.equal(one!.body.metrics[0].tags.configVersion, 'chat-service@3');
  assert.equal(batch!.body.metrics.length, 3);
  assert.equal(peer.of('/quality')[0]!.body.evaluations[0].overallScore, 92);
  assert.equal(peer.of('/optimize/trigger')[0]!.body.dryRun, true);
});

test("the README's first lines", async (t) => {
  const peer = await Peer.start();
  t.after(() => peer.close());
  const [, lines] = /```ts\n([\s\S]*?)```/.exec(readFileSync(`${PACKAGE}/README.md`, 'utf8'))!;
  const program = `
    import type { Config } from 'llm-auto-optimizer';
    const callLLM = async (prompt: string, config: Config) => ({ text: prompt + config.model, inputTokens: 7, outputTokens: 1 });
    ${lines!.replace('http://localhost:8080', peer.url)}
    console.log(await answer('what? ', 'user-1'));`;
  assert.equal(await run(t, program, peer), 'what? gpt-4-1106-preview\n');
  assert.deepEqual(peer.metrics.map(({ tokensTotal, tags }) => [tokensTotal, tags]), [[8, { configVersion: 'chat@1' }]]);
});
