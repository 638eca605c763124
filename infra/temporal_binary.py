"""Finds a program that runs a Temporal development server, or gets one.

Looked for in this order: the Temporal CLI on PATH; one built or downloaded before, in the user's
cache folder; the download that `temporalio` offers; a build by Go from `temporal-devserver/`. All
take the command line `server start-dev`, and say their server's version on `--version`.
"""

import asyncio
import re
import shutil
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from infra import temporal_build, temporal_download
from infra.cache import cache_folder
from infra.errors import BinaryNotFound, StackError

# The first with time skipping for each workflow.
OLDEST_SERVER = (1, 32)
SERVER_VERSION = re.compile(r"Server (\d+)\.(\d+)\.(\d+)")
VERSION_LIMIT_SECONDS = 20.0
ADVICE = (
    "any of these helps: a Temporal CLI with server 1.32 or later on PATH; a connection to the internet; "
    f"Go {temporal_build.OLDEST_GO} or later on PATH with access to a Go module proxy; "
    "or give TEMPORAL_ADDRESS to use a Temporal server of your own"
)


class Unsuitable(StackError):
    """A way to a program that does not work, and why."""


async def find_temporal(log: Callable[[str], None]) -> Path:
    """The program to run; `log` receives a line for what takes long.

    Raises:
        BinaryNotFound: no way worked; it names each.
    """
    cache = cache_folder()
    ways: dict[str, Callable[[], Awaitable[Path]]] = {
        "temporal on PATH": _on_path,
        f"built before, in {cache}": lambda: _checked(temporal_build.built_before(cache)),
        f"downloaded before, to {cache}": lambda: _checked(temporal_download.downloaded_before(cache)),
        "the download by temporalio": lambda: _downloaded(cache, log),
        "a build by Go": lambda: _built(cache, log),
    }
    tried = []
    for way, attempt in ways.items():
        try:
            return await attempt()
        except (StackError, OSError) as failure:
            tried.append(f"{way}: {failure}")
    raise BinaryNotFound("Temporal server", tried, ADVICE)


async def server_version(program: Path) -> tuple[int, int, int]:
    """The version of the server inside the program.

    Raises:
        Unsuitable: the program does not say.
    """
    process = await asyncio.create_subprocess_exec(
        program, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), VERSION_LIMIT_SECONDS)
    except TimeoutError:
        raise Unsuitable(f"{program} --version does not answer") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found = SERVER_VERSION.search(output.decode(errors="replace"))
    if found is None:
        raise Unsuitable(f"{program} --version names no server version")
    major, minor, patch = map(int, found.groups())
    return major, minor, patch


async def _checked(program: Path | None) -> Path:
    if program is None:
        raise Unsuitable("none")
    version = await server_version(program)
    if version < OLDEST_SERVER:
        is_, wanted = (".".join(map(str, parts)) for parts in (version, OLDEST_SERVER))
        raise Unsuitable(f"{program} is server {is_}, and {wanted} or later is needed")
    return program


async def _on_path() -> Path:
    found = shutil.which("temporal")
    return await _checked(Path(found) if found is not None else None)


async def _downloaded(cache: Path, log: Callable[[str], None]) -> Path:
    program = await temporal_download.download(cache, log)
    try:
        return await _checked(program)
    except Unsuitable:
        program.unlink()  # so that a newer one is fetched the next time
        raise


async def _built(cache: Path, log: Callable[[str], None]) -> Path:
    return await _checked(await temporal_build.build(cache, log))


def main() -> None:
    """Finds or makes the program ahead of need, and prints where it is."""
    try:
        program = asyncio.run(find_temporal(lambda line: print(line, file=sys.stderr, flush=True)))
    except StackError as error:
        sys.exit(str(error))
    print(program)


if __name__ == "__main__":
    main()
