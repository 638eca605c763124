"""The specification's code for a sidecar, as it stands but for the port and what it leaves to its reader."""

from pathlib import Path

import httpx

from storage.database import Database
from tests.api.answers import done
from tests.api.conftest import CONFIG
from tests.api.sidecar.beside import sidecar
from tests.api.test_reports import count
from tests.node.running import node_prints, packages
from tests.specification.blocks import blocks, section
from tests.waiting import until

# What the document leaves out: types, a provider, and the rest of a report.
MISSING = """
interface LLMConfig { provider: string; model: string }
interface MetricEvent { [name: string]: unknown }
const prompt = 'Hello';
async function callLLM(prompt: string, config: LLMConfig) {
  return { latency: 12, endpoint: '/', model: config.model, provider: config.provider };
}
"""
OTHERS = """endpoint: response.endpoint, model: response.model, provider: response.provider,
  tokensInput: 1, tokensOutput: 2, tokensTotal: 3, statusCode: 200,
"""


async def test_the_axios_example(client: httpx.AsyncClient, database: Database, tmp_path: Path) -> None:
    (example,) = blocks("typescript", section("### 4.3", "### 4.4"))
    done(await client.post("/api/v1/config/update", json={"config": CONFIG, "reason": "first"}))
    async with sidecar(str(client.base_url), tmp_path) as beside:
        address = str(beside.base_url).rstrip("/").replace("127.0.0.1", "localhost")
        program = example.replace("http://localhost:9090", address).replace("// ... other metrics", OTHERS)
        assert address in program
        assert OTHERS in program
        # Where the packages are, or Node does not find them.
        script = packages() / f"sidecar-{tmp_path.parent.name}.mts"
        script.write_text(f"{MISSING}{program}", encoding="utf-8")
        try:
            await node_prints(script)
        finally:
            script.unlink()

        async def reported() -> bool:
            return await count(database, "metrics") == 1

        await until(reported, 30)
    connection = await database.connect()
    kept = await connection.fetchrow("SELECT service, model, latency_ms FROM metrics")
    await connection.close()
    assert kept is not None
    assert (kept["service"], kept["model"], kept["latency_ms"]) == ("my-service", CONFIG["model"], 12)
