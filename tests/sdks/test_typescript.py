"""The TypeScript SDK: its own tests, and its package as applications install it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SDK = Path(__file__).parents[2] / "sdks" / "typescript"
USE = """
const client = new OptimizerClient({ endpoint: 'http://127.0.0.1:9', apiKey: 'key', stream: false });
const made = optimizerMiddleware(client, { service: 'chat', endpoint: '/api/chat' });
console.log(client.getCurrentConfig(), Same === OptimizerClient, made.specificationVersion);
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


def run(*command: str, cwd: Path) -> str:
    """What a command prints; fails with all of that if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built() -> Path:
    """The SDK's folder, with what its lock file says installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("node and npm are not installed")
        pytest.skip("node and npm are not installed")
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
        assert run("node", script, cwd=tmp_path) == "undefined true v3\n"
    # It brings nothing else with it.
    assert [path.name for path in (tmp_path / "node_modules").glob("[!.]*")] == ["llm-auto-optimizer"]
