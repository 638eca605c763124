"""The TypeScript SDK against the product: a first configuration, reports, a canary by the server's share."""

import json
import os
import subprocess
from typing import Any

import httpx

from tests.sdks.typescript import built_module

CALLS = 40
UNITS = 200
PROGRAM = """
import { OptimizerClient } from '%(module)s';

const client = new OptimizerClient({ endpoint: process.env.ENDPOINT });
const until = async (condition) => {
  for (let n = 0; n < 600; n += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`never: ${condition}`);
};
const service = 'typescript-sdk';
const config = {
  provider: 'openai', model: 'gpt-4o', temperature: 0.5, topP: 1, maxTokens: 100,
  streaming: false, functionCalling: false, visionEnabled: false,
};
await client.putPolicy(service, { rollout: { steps: [40, 100], stepSeconds: 600 } });
await client.updateConfig({ service, config, reason: 'first' });
const first = await client.getConfig({ service });
const told = [];
client.on('configUpdate', ({ version }) => told.push(version));

for (let n = 0; n < %(calls)d; n += 1) {
  await client.trackRequest({ service, endpoint: '/api/chat', unit: `user-${n}` }, async (tracker) => {
    await tracker.getConfig();
    tracker.setTokens({ input: 10, output: 5 });
  });
}
const flushed = await client.flush();
const end = Date.now() + 60_000;
const counted = await client.queryMetrics({
  services: [service], metrics: ['requests.count'], groupBy: ['configVersion'],
  timeRange: { start: end - 600_000, end },
});

const started = await client.updateConfig({
  service, config: { ...config, temperature: 0.1 }, reason: 'a canary', deploymentStrategy: 'canary',
});
const units = Array.from({ length: %(units)d }, (_, n) => `unit-${n}`);
await until(() => units.some((unit) => client.configFor(unit, { service }).isCanary));
const arms = Object.fromEntries(units.map((unit) => [unit, client.configFor(unit, { service }).version]));
const { trafficPercent } = await client.getDeployment(started.deploymentId);
const dropped = client.droppedReports;
await new Promise((resolve) => {
  process.stdin.once('data', resolve);
  console.log(JSON.stringify({ first, flushed, counted, arms, trafficPercent, dropped }));
});
await client.abortDeployment(started.deploymentId);
await until(() => units.every((unit) => !client.configFor(unit, { service }).isCanary));
await client.close();
console.log('ended');
process.stdin.destroy();
"""


def test_reports_are_counted_and_units_get_the_servers_arm(product: dict[str, Any]) -> None:
    program = PROGRAM % {"module": built_module().as_uri(), "calls": CALLS, "units": UNITS}
    process = subprocess.Popen(
        ["node", "--input-type=module", "--eval", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "ENDPOINT": product["api"], "OPTIMIZER_API_KEY": product["key"]},
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the program ended before it had anything to say"
        seen = json.loads(line)
        headers = {"Authorization": f"Bearer {product['key']}"}
        address = f"{product['api']}/api/v1/config/service/typescript-sdk"
        with httpx.Client(headers=headers) as client:
            arms = {
                unit: client.get(address, params={"unit": unit}).json()["version"] for unit in seen["arms"]
            }
        rest, _ = process.communicate("go on\n", timeout=120)
    finally:
        process.kill()
        process.wait()
    assert seen["first"]["version"] == "typescript-sdk@1"
    assert seen["flushed"] is True
    assert seen["dropped"] == 0
    ((point,),) = [series["dataPoints"] for series in seen["counted"]["metrics"]]
    assert point["dimensions"] == {"configVersion": "typescript-sdk@1"}
    assert point["value"] == CALLS
    assert seen["arms"] == arms
    assert set(arms.values()) == {"typescript-sdk@1", "typescript-sdk@2"}
    assert seen["trafficPercent"] == 40
    assert rest == "ended\n"
    assert process.returncode == 0
