"""Child processes that never outlive this one.

Each child is started by a minder (see `infra.minder`), a small process of its own that is told to
stop over a pipe. When this process ends, however it ends, the pipe closes and the minder stops its
child and all that the child has started.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from infra.errors import ComponentFailed
from infra.minder import Order
from infra.privileges import Account

MINDER = Path(__file__).with_name("minder.py")
# A log is kept over restarts, and begins anew beyond this size, the old one beside it.
LOG_LIMIT_BYTES = 10_000_000
# What a server of ours needs to see of the environment; keys and passwords are not among it.
PASSED_ON = ("PATH", "HOME", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def server_environment() -> dict[str, str]:
    """The environment for a server: little of our own, and messages in English, which are read back."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"LC_ALL": "C"}


class Child:
    """A running process with its log file, made by `start`."""

    def __init__(self, name: str, log: Path, log_start: int, minder: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.log = log
        self._log_start = log_start
        self._minder = minder
        self._started: Future[int] = Future()
        self._exited: Future[int] = Future()
        for future in (self._started, self._exited):
            future.set_running_or_notify_cancel()  # a waiter that gives up cannot cancel it for the others
        threading.Thread(target=self._listen, name=f"minder of {name}", daemon=True).start()

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        log: Path,
        environment: Mapping[str, str],
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_limit: float = 10.0,
        orphan_signal: signal.Signals = signal.SIGKILL,
        account: Account | None = None,
        lock: int | None = None,
    ) -> "Child":
        """Starts a process and returns when it runs.

        Args:
            name: what messages call it.
            log: receives its output and errors, appended.
            stop_signal: what asks it to stop in order; `stop_limit` seconds later it is killed.
            orphan_signal: what it gets, on Linux, should its minder be killed.
            account: the user to run as, None for the own one.
            lock: a file descriptor that stays open until the process and all it started have ended.

        Raises:
            ComponentFailed: the command cannot be executed.
        """
        order = Order(
            command=[str(part) for part in command],
            cwd=str(cwd),
            stop_signal=stop_signal,
            stop_limit=stop_limit,
            orphan_signal=orphan_signal,
            uid=account.uid if account else None,
            gid=account.gid if account else None,
            override_permissions=account.override_permissions if account else False,
        )
        log_start = rotate(log)
        child = cls(name, log, log_start, start_minder(order, log, environment, lock))
        try:
            await asyncio.wrap_future(child._started)
        except BaseException as error:
            child._hang_up()
            await child.wait()
            if isinstance(error, OSError):
                raise ComponentFailed(name, f"could not be executed: {error}", log, "") from None
            raise
        return child

    @property
    def pid(self) -> int:
        """The process itself, not its minder."""
        return self._started.result(timeout=0)

    @property
    def minder_pid(self) -> int:
        return self._minder.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._exited.result() if self._exited.done() else None

    async def wait(self, timeout: float | None = None) -> int:
        """Waits for the end of the process and of all it started, and gives its exit code.

        Raises:
            TimeoutError: it still runs after `timeout` seconds.
        """
        return await asyncio.wait_for(asyncio.wrap_future(self._exited), timeout)

    async def stop(self) -> None:
        """Stops it in order, by force after its limit; no error where it has ended already."""
        self._send(b"stop\n")
        await self.wait()

    async def kill(self) -> None:
        """Kills it with SIGKILL, as a crash would."""
        self._send(b"kill\n")
        await self.wait()

    def log_since_start(self) -> str:
        """What this run has written to its log."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log_since_start().splitlines()[-lines:])

    def failed(self, reason: str) -> ComponentFailed:
        """The error to raise about it, with the end of its log."""
        return ComponentFailed(self.name, reason, self.log, self.log_tail())

    def _send(self, order: bytes) -> None:
        assert self._minder.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # the minder has ended, and with it the child
            self._minder.stdin.write(order)
            self._minder.stdin.flush()

    def _listen(self) -> None:
        """Follows the minder's reports until its end."""
        assert self._minder.stdout is not None
        code = -signal.SIGKILL  # what a minder that was killed itself could not report
        for line in self._minder.stdout:
            report = json.loads(line)
            if "started" in report:
                self._started.set_result(report["started"])
            elif "failed" in report:
                self._started.set_exception(OSError(report["failed"]))
            elif "exited" in report:
                code = report["exited"]
        self._hang_up()
        self._minder.stdout.close()
        self._minder.wait()
        if not self._started.done():
            self._started.set_exception(OSError("its minder ended early"))
        self._exited.set_result(code)

    def _hang_up(self) -> None:
        """Closes the pipe to the minder, which makes it stop the child."""
        assert self._minder.stdin is not None
        with contextlib.suppress(OSError):  # an order may be left that nobody reads any more
            self._minder.stdin.close()


def start_minder(
    order: Order, log: Path, environment: Mapping[str, str], lock: int | None
) -> "subprocess.Popen[bytes]":
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", str(MINDER), json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=dict(environment),
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
        )


def rotate(log: Path) -> int:
    """Sets a log aside that has grown too long, and gives the offset at which new lines begin."""
    size = log.stat().st_size if log.exists() else 0
    if size <= LOG_LIMIT_BYTES:
        return size
    log.replace(log.with_suffix(".old.log"))
    return 0
