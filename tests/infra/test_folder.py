import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from infra.errors import FolderInUse
from infra.folder import FolderLock, end_leftovers


def component_with(descriptor: int) -> "subprocess.Popen[bytes]":
    """A process that keeps a file open, as a minder does, and ends when its input does."""
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[descriptor])


async def test_one_holds_it_and_the_next_may_follow(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    await first.acquire()
    with pytest.raises(FolderInUse, match=f"{tmp_path} is in use by process {os.getpid()}"):
        await second.acquire()
    first.release()
    await second.acquire()
    second.release()


async def test_components_without_their_stack_are_waited_for(tmp_path: Path) -> None:
    holder = FolderLock(tmp_path)
    await holder.acquire()
    # As if the stack's process were gone, and its number had passed to this one, which is younger.
    born = psutil.Process().create_time()
    (tmp_path / "lock").write_text(json.dumps({"pid": os.getpid(), "created": born - 1000}))
    with component_with(holder.descriptor) as component:
        holder.release()
        waiting = FolderLock(tmp_path)
        taken = asyncio.create_task(waiting.acquire())
        await asyncio.sleep(0)
        assert not taken.done()
        assert component.stdin is not None
        component.stdin.close()
        await taken
    assert json.loads((tmp_path / "lock").read_text()) == {"pid": os.getpid(), "created": born}
    waiting.release()


def test_only_the_program_s_own_leftovers_are_ended(tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    assert sleep is not None
    program = Path(sleep).resolve()
    (tmp_path / "data").mkdir()
    leftover = subprocess.Popen([program, "600"], cwd=tmp_path / "data")
    elsewhere = subprocess.Popen([program, "600"], cwd=tmp_path.parent)
    other_program = subprocess.Popen(["cat"], cwd=tmp_path, stdin=subprocess.PIPE)
    try:
        end_leftovers(program, tmp_path)
        assert not psutil.pid_exists(leftover.pid)
        assert elsewhere.poll() is None
        assert other_program.poll() is None
    finally:
        for process in (leftover, elsewhere, other_program):
            process.kill()
            process.communicate()
