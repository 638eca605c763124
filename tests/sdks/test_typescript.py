"""The TypeScript SDK: its own tests, and its package as applications install it."""

from pathlib import Path

import pytest

from tests.sdks.tools import need, run, serving

SDK = Path(__file__).parents[2] / "sdks" / "typescript"
USE = """
const client = new OptimizerClient({ endpoint: process.argv[2] });
const made = optimizerMiddleware(client, { service: 'chat', endpoint: '/api/chat' });
client
  .trackRequest({ service: 'chat', endpoint: '/api/chat' }, async (tracker) => {
    const { version, model } = await tracker.getConfig();
    tracker.setTokens({ input: 1, output: 2 });
    console.log(version, model, Same === OptimizerClient, made.specificationVersion);
  })
  .then(() => client.close());
"""
ESM = """
import { OptimizerClient } from 'llm-auto-optimizer';
import { OptimizerClient as Same } from 'llm-auto-optimizer/client';
import { optimizerMiddleware } from 'llm-auto-optimizer/ai-sdk';
"""
CJS = """
const { OptimizerClient } = require('llm-auto-optimizer');
const { OptimizerClient: Same } = require('llm-auto-optimizer/client');
const { optimizerMiddleware } = require('llm-auto-optimizer/ai-sdk');
"""


@pytest.fixture(scope="module")
def built() -> Path:
    """The SDK's folder, with what its lock file says installed."""
    need("node", "npm")
    run("npm", "ci", "--no-audit", "--no-fund", cwd=SDK)
    return SDK


def test_its_own_tests(built: Path) -> None:
    printed = run("npm", "test", cwd=built)
    assert "\n# fail 0\n" in printed
    assert "\n# skipped 0\n" in printed


def test_the_package_by_import_and_by_require(built: Path, tmp_path: Path) -> None:
    tarball = run("npm", "pack", "--pack-destination", str(tmp_path), cwd=built).splitlines()[-1]
    (tmp_path / "package.json").write_text('{ "private": true }')
    run("npm", "install", "--no-audit", "--no-fund", "--offline", f"./{tarball}", cwd=tmp_path)
    (tmp_path / "use.mjs").write_text(ESM + USE)
    (tmp_path / "use.cjs").write_text(CJS + USE)
    for script in ("use.mjs", "use.cjs"):
        with serving() as served:
            assert run("node", script, served.address, cwd=tmp_path) == "chat@1 gpt-4o true v3\n"
        assert [report["tags"] for report in served.reports] == [{"configVersion": "chat@1"}]
    # It brings nothing else with it.
    assert [path.name for path in (tmp_path / "node_modules").glob("[!.]*")] == ["llm-auto-optimizer"]
