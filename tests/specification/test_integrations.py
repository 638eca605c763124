"""Every snippet of sections 4 and 5 is run: here, or by the test that is named beside it.

Word for word, but for hosts and ports, for what stands for the reader's own (`// ... other metrics`), and
with what the reader is to bring: a prompt, a call of a model, a use of the configuration.
"""

import asyncio
import re
import subprocess
from pathlib import Path

import httpx
import pytest

from activities.delivery_http import Endpoint, Poster
from domain.events import EventMessage
from domain.webhooks import Sender
from storage.database import Database
from tests.api.answers import done
from tests.api.conftest import ADMIN_KEY, CONFIG
from tests.api.sidecar.beside import sidecar
from tests.node.running import NODE, node_prints, packages
from tests.specification.blocks import TEXT, blocks, section

ROOT = Path(__file__).parents[2]
ORIGINAL = ROOT.parent / "shared" / "spec" / "interfaces.md"
# What runs the block of a language below a heading: a file, and words of it.
RUN_BY = {
    ("4.1", "typescript"): ("sdks/typescript/test/specification.test.ts", "'### 4.1'"),
    ("4.2", "typescript"): ("tests/specification/test_integrations.py", "def test_the_receiver_of_webhooks"),
    ("4.3", "typescript"): ("tests/specification/test_integrations.py", "def test_the_direct_communication"),
    ("4.4", "protobuf"): ("tests/api/test_proto.py", 'section("### 4.4"'),
    ("5.1", "typescript"): ("sdks/typescript/test/specification.test.ts", "'### 5.1'"),
    ("5.2", "python"): ("sdks/python/tests/test_specification.py", "### 5.2 Python SDK"),
    ("5.3", "go"): ("sdks/go/programs_test.go", "### 5.3 Go SDK"),
}
REPORT = """
  endpoint: '/api/chat', model: config.model, provider: config.provider,
  tokensInput: 150, tokensOutput: 500, tokensTotal: 650, statusCode: 200,
"""


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the document is not beside the repository")
def test_the_document_that_tests_are_taken_from_is_the_specification() -> None:
    assert ORIGINAL.read_text(encoding="utf-8") == TEXT


def test_every_snippet_of_sections_4_and_5_is_run() -> None:
    found = set()
    for part in re.split(r"^### ", section("## 4. ", "## 6. "), flags=re.MULTILINE)[1:]:
        languages = re.findall(r"^```(\w+)$", part, re.MULTILINE)
        found |= {(part.split()[0], language) for language in languages}
        assert len(languages) == 1, part
    assert found == RUN_BY.keys()
    for file, words in RUN_BY.values():
        assert words in (ROOT / file).read_text(encoding="utf-8"), file


async def test_the_receiver_of_webhooks(tmp_path: Path) -> None:
    (receiver,) = blocks("typescript", section("### 4.2", "### 4.3"))
    assert receiver.count("server.listen(3000);") == 1
    program = tmp_path / "receiver.mts"
    program.write_text(
        "function updateLLMClient(config: any) { console.log(config.model); server.close(); }\n"
        + receiver.replace(
            "server.listen(3000);",
            "server.listen(0, '127.0.0.1', () => console.log((server.address() as any).port));",
        ),
        encoding="utf-8",
    )
    process = await asyncio.create_subprocess_exec(NODE, program, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with (
            asyncio.timeout(60),
            Poster(Sender(version="1.2.3", mode="daemon", instance_id="wrk_1"), allow_private=True) as poster,
        ):
            port = int(await process.stdout.readline())
            endpoint = Endpoint(f"http://127.0.0.1:{port}/webhooks/optimizer", {}, ())
            events = [
                EventMessage(id="evt_1", type="deployment.started", timestamp=7, scope="chat", data={}),
                EventMessage(
                    id="evt_2", type="config.changed", timestamp=8, scope="chat", data={"newConfig": CONFIG}
                ),
            ]
            for event in events:
                assert (await poster.post(endpoint, event)).status == 200
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert output.decode() == f"{CONFIG['model']}\n"


@pytest.mark.parametrize("by_sidecar", [True, False], ids=["a sidecar", "the server"])
async def test_the_direct_communication(
    client: httpx.AsyncClient, database: Database, tmp_path: Path, by_sidecar: bool
) -> None:
    update = {"config": CONFIG, "reason": "first"}
    done(await client.post("/api/v1/config/update", json=update))
    # The sidecar asks for no key; a server does.
    key = "" if by_sidecar else f"axios.defaults.headers.common.Authorization = 'Bearer {ADMIN_KEY}';\n"
    brought = tmp_path / "brought.mjs"
    brought.write_text(f"import axios from 'axios';\n{key}globalThis.prompt = 'Hello';\n", encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(packages() / "node_modules")
    async with sidecar(str(client.base_url), tmp_path) as beside:
        address = str((beside if by_sidecar else client).base_url).rstrip("/")
        (direct,) = blocks("typescript", section("### 4.3", "### 4.4"))
        for words, given in (
            ("'http://localhost:9090'", f"'{address}'"),
            ("  // ... other metrics\n", REPORT),
        ):
            assert direct.count(words) == 1
            direct = direct.replace(words, given)
        program = tmp_path / "direct.mts"
        program.write_text(
            f"{direct}\nconsole.log(config.model);\n"
            "function callLLM(prompt: string, config: any) { return { latency: 12 }; }\n",
            encoding="utf-8",
        )
        printed = await node_prints("--import", brought.as_uri(), program)
    assert printed.splitlines()[-1] == CONFIG["model"]
    # The sidecar has delivered what it took: it has ended.
    connection = await database.connect()
    kept = await connection.fetch("SELECT service, model, latency_ms FROM metrics")
    await connection.close()
    assert [tuple(row) for row in kept] == [("my-service", CONFIG["model"], 12)]
