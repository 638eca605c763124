"""The Temporal development server, built by Go from the sources beside this file.

Once per version of the sources, into the user's cache folder.
"""

import hashlib
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.cache import locked
from infra.errors import StackError
from infra.supervisor import Child

SOURCES = Path(__file__).resolve().parent / "temporal-devserver"
PROGRAM = "temporal-devserver"
OLDEST_GO = "1.26.8"
PROGRESS_SECONDS = 15.0


def source_key(sources: Path = SOURCES) -> str:
    """Names what a build is made from: the sources' contents and the machine's kind."""
    digest = hashlib.sha256(f"{sys.platform} {platform.machine()}".encode())
    for file in sorted([*sources.glob("*.go"), sources / "go.mod", sources / "go.sum"]):
        content = file.read_bytes()
        digest.update(f"\n{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def built_before(cache: Path, sources: Path = SOURCES) -> Path | None:
    """The program, where it has been built before."""
    program = _program(cache, sources)
    return program if program.exists() else None


async def build(cache: Path, log: Callable[[str], None], sources: Path = SOURCES) -> Path:
    """Builds the program into the cache and gives its path; a second builder waits for the first.

    Raises:
        StackError: there is no Go, or the build failed.
    """
    go = shutil.which("go")
    if go is None:
        raise StackError("there is no go on PATH")
    program = _program(cache, sources)
    program.parent.mkdir(parents=True, exist_ok=True)
    waiting = "another process is building the Temporal server; waiting for it"
    async with locked(program.parent / "lock", lambda: log(waiting)):
        if built_before(cache, sources) is None:
            unfinished = program.with_suffix(".new")
            await _Build(go, sources, program.parent, log).run(unfinished)
            unfinished.replace(program)
    return program


def _program(cache: Path, sources: Path) -> Path:
    return cache / PROGRAM / source_key(sources) / PROGRAM


class _Build:
    def __init__(self, go: str, sources: Path, folder: Path, log: Callable[[str], None]) -> None:
        self.go = go
        self.sources = sources
        self.folder = folder
        self.log = log
        self.began = time.monotonic()

    async def run(self, program: Path) -> None:
        self.log("building the Temporal server from source, which takes some minutes, this once")
        await self._go("fetching its modules", "mod", "download")
        listing = await self._go("listing its packages", "list", "-mod=readonly", "-deps", ".")
        total = len(listing.splitlines())
        flags = ["-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-v"]
        await self._go("compiling", "build", *flags, "-o", str(program), ".", packages=total)
        self.log(f"built the Temporal server in {self._elapsed()}")

    async def _go(self, step: str, *arguments: str, packages: int | None = None) -> str:
        """Runs go, tells of its progress, and gives its output; it ends with this process."""
        child = await Child.start(
            "go",
            [self.go, *arguments],
            cwd=self.sources,
            log=self.folder / "build.log",
            environment=go_environment(os.environ),
        )
        try:
            while child.exit_code is None:
                try:
                    await child.wait(PROGRESS_SECONDS)
                except TimeoutError:
                    self._tell(step, child, packages)
        finally:
            await child.kill()
        if child.exit_code != 0:
            raise child.failed(f"{arguments[0]} ended with code {child.exit_code}")
        return child.log_since_start()

    def _tell(self, step: str, child: Child, packages: int | None) -> None:
        if packages is not None:
            done = len(child.log_since_start().splitlines())
            step = f"{step}, {done} of up to {packages} packages"
        self.log(f"building the Temporal server: {step}, {self._elapsed()}")

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.began), 60)
        return f"{minutes}:{seconds:02} min"


def go_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's settings for Go (proxy, caches, tool chain), without those that would change the build."""
    kept = {name: value for name, value in environment.items() if name not in ("GOOS", "GOARCH", "GOFLAGS")}
    return kept | {"CGO_ENABLED": "0", "GO111MODULE": "on", "GOWORK": "off", "GOFLAGS": "-buildvcs=false"}
