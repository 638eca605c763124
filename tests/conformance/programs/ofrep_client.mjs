// An application that has OpenFeature with its OFREP provider, and reports over plain HTTP. Runs after lines.mjs.
import { randomUUID } from "node:crypto";
import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OpenFeature } from "@openfeature/server-sdk";

const authorization = `Bearer ${setup.key}`;
await OpenFeature.setProviderAndWait(
  new OFREPProvider({ baseUrl: setup.api, headers: [["Authorization", authorization]] }),
);
const flags = OpenFeature.getClient();
const judged = [];
let waiting = [];
let sending = Promise.resolve();

/** Sends items under one key, again until they are taken. */
async function send(path, name, items) {
  const headers = { authorization, "content-type": "application/json", "idempotency-key": randomUUID() };
  const body = JSON.stringify({ [name]: items });
  for (;;) {
    const signal = AbortSignal.timeout(10_000);
    const answer = await fetch(`${setup.api}/api/v1${path}`, { method: "POST", headers, body, signal })
      .then(async (response) => ({ status: response.status, ...(await response.json()) }))
      .catch(() => undefined);
    if (answer?.status === 200) {
      if (answer.accepted !== items.length) throw new Error(JSON.stringify(answer));
      return;
    }
    if (answer && !answer.error.retryable) throw new Error(JSON.stringify(answer));
    await sleep(200);
  }
}

/** Queues a report; what waits goes together, once what went before is taken. */
function report(metric) {
  waiting.push(metric);
  if (waiting.length > 1) return;
  sending = sending.then(() => {
    const batch = waiting;
    waiting = [];
    return send("/metrics", "metrics", batch);
  });
}

async function call(asked) {
  const context = { targetingKey: asked.unit };
  const { value, variant } = await flags.getObjectDetails(`llm.${setup.service}.config`, setup.default, context);
  await sleep(asked.latencyMs);
  report({
    timestamp: Date.now(),
    service: setup.service,
    endpoint: setup.endpoint,
    provider: value.provider,
    model: value.model,
    latencyMs: asked.latencyMs,
    tokensInput: asked.tokensInput,
    tokensOutput: asked.tokensOutput,
    tokensTotal: asked.tokensInput + asked.tokensOutput,
    costUsd: asked.costUsd,
    statusCode: asked.failed ? 503 : 200,
    ...(asked.failed && { errorType: "Failed" }),
    tags: { requestId: asked.requestId, ...(variant && { configVersion: variant }) },
  });
  if (asked.score !== null) judged.push(judgement(asked));
  return served(variant, value);
}

async function end() {
  await sending;
  await send("/quality", "evaluations", judged);
  await OpenFeature.close();
  return { dropped: 0 };
}

await run({ call, end });
