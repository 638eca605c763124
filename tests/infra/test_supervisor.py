import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.cache import lock_file
from infra.errors import ComponentFailed
from infra.supervisor import LOG_LIMIT_BYTES, Child

Starter = Callable[..., Coroutine[Any, Any, Child]]
WITH_A_CHILD = """
import subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(inner.pid, flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True:
    time.sleep(600)
"""


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Starter]:
    """Starts Python code as a child, and kills it after the test."""
    children = []

    async def start(code: str, **options: Any) -> Child:
        command = [sys.executable, "-c", code]
        child = await Child.start(
            "code", command, cwd=tmp_path, log=tmp_path / "code.log", environment=os.environ, **options
        )
        children.append(child)
        return child

    yield start
    for child in children:
        await child.kill()


def ended(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def said(child: Child) -> str:
    """The first line that the child writes."""
    async with asyncio.timeout(20):
        while True:
            first, end, _rest = child.log_since_start().partition("\n")
            if end:
                return first
            await asyncio.sleep(0.02)


async def test_the_exit_code_and_the_log_are_known(start: Starter) -> None:
    child = await start("import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)")
    assert await child.wait(20) == 3
    assert child.exit_code == 3
    assert sorted(child.log_since_start().split()) == ["one", "two"]
    assert len(child.log_tail(1).splitlines()) == 1
    await child.stop()  # no error, it has ended


async def test_a_stop_is_orderly(start: Starter) -> None:
    child = await start("import signal; print('up', flush=True); signal.pause()", stop_signal=signal.SIGINT)
    await said(child)
    await child.stop()
    assert "KeyboardInterrupt" in child.log_since_start()


async def test_one_that_does_not_stop_is_killed_after_its_limit(start: Starter) -> None:
    child = await start(STUBBORN, stop_limit=0.2)
    await said(child)
    await child.stop()
    assert child.exit_code == -signal.SIGKILL


async def test_what_the_child_started_ends_with_it(start: Starter) -> None:
    child = await start(WITH_A_CHILD)
    inner = psutil.Process(int(await said(child)))
    await child.kill()
    assert not inner.is_running()


async def test_the_child_is_out_of_reach_of_ctrl_c(start: Starter) -> None:
    child = await start("import signal; signal.pause()")
    sessions = {os.getsid(pid) for pid in (os.getpid(), child.minder_pid, child.pid)}
    assert len(sessions) == 3


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux binds a child to its parent's life"
)
async def test_the_child_dies_with_its_minder(start: Starter) -> None:
    child = await start("import signal; signal.pause()")
    process = psutil.Process(child.pid)
    os.kill(child.minder_pid, signal.SIGKILL)
    await child.wait(20)
    async with asyncio.timeout(20):
        while True:
            if ended(process):
                break
            await asyncio.sleep(0.02)


async def test_the_lock_is_held_until_the_child_has_ended(start: Starter, tmp_path: Path) -> None:
    held = os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)
    assert lock_file(held)
    child = await start("import signal; signal.pause()", lock=held)
    os.close(held)
    wanted = os.open(tmp_path / "lock", os.O_RDWR)
    assert not lock_file(wanted)
    await child.kill()
    assert lock_file(wanted)
    os.close(wanted)


async def test_a_waiter_that_gives_up_leaves_the_others_waiting(start: Starter) -> None:
    child = await start("import signal; signal.pause()")
    with pytest.raises(TimeoutError):
        await child.wait(0.01)
    assert child.exit_code is None
    await child.kill()
    assert await child.wait(20) == -signal.SIGKILL


async def test_a_start_that_is_cancelled_leaves_nothing(start: Starter) -> None:
    # Not their children, too: the workers of a PostgreSQL that runs meanwhile come and go.
    before = psutil.Process().children()
    starting = asyncio.create_task(start("import signal; signal.pause()"))
    await asyncio.sleep(0)  # now its minder has been started, and is not heard of yet
    assert psutil.Process().children() != before
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert psutil.Process().children() == before


async def test_a_command_that_cannot_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ComponentFailed, match=r"thing could not be executed: .*no-such-program"):
        await Child.start(
            "thing", [tmp_path / "no-such-program"], cwd=tmp_path, log=tmp_path / "log", environment={}
        )


async def test_a_long_log_is_set_aside(start: Starter, tmp_path: Path) -> None:
    log = tmp_path / "code.log"
    log.write_text("x" * (LOG_LIMIT_BYTES + 1))
    child = await start("print('new')")
    await child.wait(20)
    assert log.read_text() == "new\n"
    assert (tmp_path / "code.old.log").stat().st_size == LOG_LIMIT_BYTES + 1
