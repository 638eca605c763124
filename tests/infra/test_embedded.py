import asyncio
import os
from pathlib import Path

import asyncpg
import httpx
import psutil
import pytest
import redis.asyncio
from temporalio.client import Client

from infra.embedded import EmbeddedStack
from infra.errors import ComponentFailed, FolderInUse, StackError


def everything_of(stack: EmbeddedStack) -> list[psutil.Process]:
    assert stack.postgres is not None
    assert stack.redis is not None
    assert stack.temporal is not None
    processes = [psutil.Process(part.pid) for part in (stack.postgres, stack.redis, stack.temporal)]
    return [child for process in processes for child in (process, *process.children(recursive=True))]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def leave_traces(stack: EmbeddedStack) -> None:
    connection = await asyncpg.connect(stack.database_url)
    await connection.execute("CREATE TABLE trace AS SELECT 'kept' AS word")
    await connection.close()
    async with redis.asyncio.Redis.from_url(stack.redis_url) as client:
        await client.set("trace", "kept")
    temporal = await Client.connect(stack.temporal_address)
    await temporal.start_workflow("Trace", id="trace", task_queue="none")


async def find_traces(stack: EmbeddedStack) -> list[object]:
    connection = await asyncpg.connect(stack.database_url)
    row = await connection.fetchval("SELECT word FROM trace")
    await connection.close()
    async with redis.asyncio.Redis.from_url(stack.redis_url, decode_responses=True) as client:
        value = await client.get("trace")
    temporal = await Client.connect(stack.temporal_address)
    workflow = await temporal.get_workflow_handle("trace").describe()
    return [row, value, workflow.workflow_type]


async def test_data_are_found_again_at_the_next_start(tmp_path: Path) -> None:
    async with EmbeddedStack(tmp_path) as stack:
        await leave_traces(stack)
        processes = everything_of(stack)
    assert [process for process in processes if process.is_running()] == []
    async with EmbeddedStack(tmp_path) as stack:
        assert await find_traces(stack) == ["kept", "kept", "Trace"]


async def test_data_survive_a_kill_of_each_component_and_the_ports_stay(stack: EmbeddedStack) -> None:
    await leave_traces(stack)
    addresses = (stack.database_url, stack.redis_url, stack.temporal_address, stack.temporal_ui)
    # Redis writes its file once a second, and is the one that may lose what is younger.
    async with redis.asyncio.Redis.from_url(stack.redis_url) as client:
        await client.waitaof(1, 0, 0)
    for component in (stack.postgres, stack.redis, stack.temporal):
        assert component is not None
        killed = component.pid
        assert killed is not None
        await component.kill()
        assert not component.running
        assert not psutil.pid_exists(killed)
        await component.start()
        assert component.running
    assert await find_traces(stack) == ["kept", "kept", "Trace"]
    assert addresses == (stack.database_url, stack.redis_url, stack.temporal_address, stack.temporal_ui)


async def test_the_ui_answers(stack: EmbeddedStack) -> None:
    assert stack.temporal_ui is not None
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{stack.temporal_ui}/namespaces/default/workflows")
    assert answer.status_code == 200
    assert "<html" in answer.text


async def test_two_stacks_run_beside_each_other(stack: EmbeddedStack, tmp_path: Path) -> None:
    async with EmbeddedStack(tmp_path, temporal_ui=False) as other:
        assert other.temporal_ui is None
        assert other.postgres is not None
        assert stack.postgres is not None
        assert other.postgres.ports != stack.postgres.ports
        assert other.redis_url != stack.redis_url
        assert other.temporal_address != stack.temporal_address
        client = await Client.connect(other.temporal_address)
        assert [workflow async for workflow in client.list_workflows()] == []


async def test_two_stacks_that_start_at_the_same_time_share_no_port(tmp_path: Path) -> None:
    stacks = [EmbeddedStack(tmp_path / name) for name in ("one", "two")]
    await asyncio.gather(*(stack.__aenter__() for stack in stacks))
    try:
        ports = [
            port
            for stack in stacks
            for part in (stack.postgres, stack.redis, stack.temporal)
            if part is not None
            for port in part.ports
        ]
        assert len(ports) == 8
        assert len(set(ports)) == 8
    finally:
        await asyncio.gather(*(stack.__aexit__(None, None, None) for stack in stacks))


async def test_a_second_stack_on_the_folder_is_refused(stack: EmbeddedStack) -> None:
    with pytest.raises(FolderInUse) as refusal:
        async with EmbeddedStack(stack.data_dir):
            pass
    assert str(stack.data_dir) in str(refusal.value)
    assert f"process {os.getpid()}" in str(refusal.value)
    assert refusal.value.pid == os.getpid()
    assert stack.postgres is not None
    assert stack.postgres.running


async def test_what_is_given_is_not_started(tmp_path: Path) -> None:
    given = EmbeddedStack(
        tmp_path, database_url="postgresql://db", temporal_address="temporal:7233", temporal_ui=True
    )
    async with given as stack:
        assert stack.postgres is None
        assert stack.temporal is None
        assert stack.database_url == "postgresql://db"
        assert stack.temporal_address == "temporal:7233"
        assert stack.temporal_ui is None
        assert stack.redis is not None
        assert stack.redis.running
    assert names_in(tmp_path) == ["lock", "logs", "redis"]


async def test_a_crash_at_the_start_shows_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True, mode=0o700)
    (data / "PG_VERSION").write_text("9.6\n")
    # Not their children, too: the workers of a PostgreSQL that runs meanwhile come and go.
    before = set(psutil.Process().children())
    with pytest.raises(ComponentFailed) as failure:
        async with EmbeddedStack(tmp_path):
            pass
    assert failure.value.component == "postgres"
    assert str(tmp_path / "logs" / "postgres.log") in str(failure.value)
    assert "postgres" in failure.value.log_tail
    assert set(psutil.Process().children()) <= before
    async with EmbeddedStack(tmp_path, database_url="postgresql://db", temporal_address="temporal:7233"):
        pass  # the folder is free again


async def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match="data folder cannot be used"):
        async with EmbeddedStack(tmp_path / "file" / "folder"):
            pass


async def test_watch_names_the_component_that_ended(tmp_path: Path) -> None:
    async with EmbeddedStack(
        tmp_path, database_url="postgresql://db", temporal_address="temporal:7233"
    ) as stack:
        assert stack.redis is not None
        assert stack.redis.pid is not None
        await stack.redis.stop()
        await stack.redis.start()
        psutil.Process(stack.redis.pid).kill()
        failure = await asyncio.wait_for(stack.watch(), 20)
        assert failure.component == "redis"
        assert "Redis version" in failure.log_tail
