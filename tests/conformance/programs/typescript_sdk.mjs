// An application on the TypeScript SDK, whose module is the first argument. Runs after lines.mjs.
const { OptimizerClient } = await import(process.argv[1]);

const client = new OptimizerClient({ endpoint: setup.api, apiKey: setup.key });
const judged = [];

async function call(asked) {
  let config;
  const of = { service: setup.service, endpoint: setup.endpoint, unit: asked.unit };
  const tracked = client.trackRequest(of, async (tracker) => {
    config = await tracker.getConfig();
    tracker.setRequestId(asked.requestId);
    await sleep(asked.latencyMs);
    if (asked.failed) throw new Failed();
    tracker.setTokens({ input: asked.tokensInput, output: asked.tokensOutput });
    tracker.setCost(asked.costUsd);
  });
  await tracked.catch((error) => {
    if (!(error instanceof Failed)) throw error;
  });
  if (asked.score !== null) judged.push(judgement(asked));
  return served(config.version, config);
}

async function end() {
  await client.flush(60_000);
  await client.reportQualityBatch(judged);
  await client.close();
  return { dropped: client.droppedReports };
}

await run({ call, end });
