"""The specification's own examples, run word for word but for the host and the token."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from temporalio.client import Client

from domain.webhooks import WebhookRequest
from tests.api.answers import done
from tests.api.conftest import ADMIN_KEY, CONFIG, Served
from tests.node.running import node_prints
from tests.specification.blocks import blocks, section

RETRY = """
const sleep = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));
const [address, key] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${key}`, 'Content-Type': 'application/json' };
const results: unknown[] = [];
for (const [path, body] of [
  ['/api/v1/optimize/trigger', { services: ['chat'] }],
  ['/api/v1/optimize/trigger', { services: ['nobody'] }],
]) {
  let calls = 0;
  const outcome = await withRetry(async () => {
    calls += 1;
    const answer = await fetch(address + path, { method: 'POST', headers, body: JSON.stringify(body) });
    const read = await answer.json();
    if (!answer.ok) throw read.error;
    return read.status;
  }, { maxRetries: 3, backoff: 'exponential', initialDelay: 10 }).catch(error => error.code);
  results.push([calls, outcome]);
}
console.log(JSON.stringify(results));
"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_the_curl_call(client: httpx.AsyncClient) -> None:
    (command,) = blocks("bash", section("### 2.1", "### 2.2"))
    address = str(client.base_url)
    command = command.replace("http://optimizer:8080", address).replace("<token>", ADMIN_KEY)
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", f"set -- -s; alias curl='curl -s'; {command}", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert json.loads(output) == {"accepted": 1, "rejected": 0}
    services = done(await client.get("/api/v1/services"))["services"]
    assert [service["service"] for service in services] == ["chat-service"]


def test_the_webhook_configuration() -> None:
    (text,) = blocks("yaml", section("### 3.2", "## 4."))
    (given,) = yaml.safe_load(text)["webhooks"]
    read = WebhookRequest.model_validate(given)
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == given


async def test_the_retry_logic(served: Served, temporal: Client, tmp_path: Path) -> None:
    refusals: list[Any] = [OSError("refused"), OSError("refused")]

    async def connect() -> Client:
        if refusals:
            raise refusals.pop()
        return temporal

    (logic,) = blocks("typescript", section("### 6.3", "---"))
    program = tmp_path / "retry.mts"
    program.write_text(logic + RETRY, encoding="utf-8")
    async with served() as setting_up:
        update = {"service": "chat", "config": CONFIG, "reason": "first"}
        done(await setting_up.post("/api/v1/config/update", json=update))
    async with served(connect_temporal=connect) as client:
        printed = await node_prints(program, str(client.base_url), ADMIN_KEY)
    # Two refusals that may be retried, then success; one that may not.
    assert json.loads(printed.splitlines()[-1]) == [[3, "queued"], [1, "NOT_FOUND"]]
