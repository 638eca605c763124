"""However the process that runs a stack ends, nothing of the stack is left."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.embedded import EmbeddedStack
from infra.errors import FolderInUse
from infra.ports import is_free


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_and_the_ports_are_free(
    hold: Callable[[Path], Any], tmp_path: Path, number: signal.Signals
) -> None:
    holder = hold(tmp_path)
    names = holder.names()
    assert {"postgres", "redis-server", "temporal-devserver"} <= set(names)
    assert names.count("postgres") > 1
    holder.end(number)
    assert holder.still_running() == []
    assert [port for port in holder.ports if not is_free(port)] == []


async def test_the_folder_is_free_at_once_after_a_kill(hold: Callable[[Path], Any], tmp_path: Path) -> None:
    holder = hold(tmp_path)
    with pytest.raises(FolderInUse) as refusal:
        async with EmbeddedStack(tmp_path):
            pass
    assert refusal.value.pid == holder.process.pid
    holder.end(signal.SIGKILL)
    async with EmbeddedStack(tmp_path):
        assert holder.still_running() == []
