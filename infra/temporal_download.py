"""The Temporal CLI by the download that `temporalio` offers, kept in the cache folder.

Run as a module with a folder as its argument, it does the download: `temporalio` fetches the
program in order to start it, and that is best done, and given up, in a process of its own.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from infra.errors import StackError
from infra.supervisor import Child

# Given up when nothing more has arrived for so long.
STALLED_SECONDS = 20
PACKAGES = Path(__file__).resolve().parent.parent
FOLDER = "temporal-cli"


def downloaded_before(cache: Path) -> Path | None:
    """The program, where it has been downloaded before."""
    programs = [file for file in (cache / FOLDER).glob("temporal*") if os.access(file, os.X_OK)]
    return max(programs, key=lambda file: file.stat().st_mtime, default=None)


async def download(cache: Path, log: Callable[[str], None]) -> Path:
    """Downloads the newest Temporal CLI and gives its path.

    Raises:
        StackError: it could not be downloaded.
    """
    folder = cache / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    log("downloading the Temporal CLI")
    child = await Child.start(
        "the download",
        [sys.executable, "-m", "infra.temporal_download", folder],
        cwd=PACKAGES,
        log=cache / "temporal-download.log",
        environment=os.environ,
    )
    try:
        await _wait_while_it_grows(child, folder)
    finally:
        await child.kill()
    program = downloaded_before(cache)
    if child.exit_code != 0 or program is None:
        raise StackError(child.log_tail(1) or "it ended without a word")
    return program


async def _wait_while_it_grows(child: Child, folder: Path) -> None:
    size = -1
    while (grown := _size(folder)) > size:
        size = grown
        try:
            await child.wait(STALLED_SECONDS)
        except TimeoutError:
            continue
        return
    raise StackError(f"nothing arrived for {STALLED_SECONDS} s")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


async def _fetch(folder: str) -> None:
    from temporalio.testing import WorkflowEnvironment

    environment = await WorkflowEnvironment.start_local(
        download_dest_dir=folder, dev_server_download_version="latest"
    )
    await environment.shutdown()


if __name__ == "__main__":
    try:
        asyncio.run(_fetch(sys.argv[1]))
    except RuntimeError as error:
        sys.exit(str(error))
