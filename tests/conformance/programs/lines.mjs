// What participants in Node have in common: lines of JSON. As lines.py, which says what they mean.
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const setup = JSON.parse(process.argv.at(-1));

class Failed extends Error {
  status = 503;
}

const served = (version, { model, temperature }) => ({ version: version ?? null, model, temperature });

const judgement = ({ requestId, score }) => ({
  timestamp: Date.now(),
  service: setup.service,
  requestId,
  overallScore: score,
  evaluationMethod: "judge",
});

const say = (said) => console.log(JSON.stringify(said));

async function run({ call, end }) {
  for await (const line of createInterface({ input: process.stdin })) {
    const started = performance.now();
    const answer = await call(JSON.parse(line));
    say({ ...answer, tookMs: performance.now() - started });
  }
  say(await end());
}
