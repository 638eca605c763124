"""A process that minds one child: it ends the child when told to, or when its own parent is gone.

Run as a script, in a session of its own, so that Ctrl-C in a terminal reaches neither it nor the
child. It imports the standard library alone and starts in some 30 ms. The protocol:

- argument 1: JSON, see `Order`;
- standard error: the log, for the child's output and errors;
- standard input: `stop` (orderly, then by force after the limit) or `kill` (by force at once), one
  per line. Its end, which comes even when the parent is killed by force, means `stop`;
- standard output: one JSON object per line, `{"started": PID}` or `{"failed": TEXT}`, and at the
  end `{"exited": CODE}`, negative for a signal, once nothing that the child started is left.

On Linux the child also dies with the minder, and whatever the child leaves behind becomes the
minder's own child, by which it is found and killed.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TypedDict

LINUX = sys.platform.startswith("linux")

# From linux/prctl.h and linux/capability.h.
PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1


class Order(TypedDict):
    """What to run: the command, where, how to end it (signals by number, limit in seconds).

    `uid` and `gid`, where given, are taken on by the child; with `override_permissions` it keeps
    root's right to pass through closed folders, and nothing else of root's.
    """

    command: list[str]
    cwd: str
    stop_signal: int
    stop_limit: float
    orphan_signal: int
    uid: int | None
    gid: int | None
    override_permissions: bool


def prctl(option: int, value: int, extra: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(number) for number in (option, value, extra, 0, 0)]
    if libc.prctl(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def keep_permission_override() -> None:
    """Gives the process, now without root's rights, CAP_DAC_OVERRIDE, and passes it on by exec."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    mask = 1 << CAP_DAC_OVERRIDE
    # Effective, permitted and inheritable, in two halves of 32 capabilities each.
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(header, sets) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)


def prepare_child(order: Order) -> None:
    """Runs in the child, between fork and exec."""
    os.umask(0o077)
    if order["uid"] is not None and order["gid"] is not None:
        os.setgroups([])
        os.setgid(order["gid"])
        if order["override_permissions"]:
            prctl(PR_SET_KEEPCAPS, 1)
        os.setuid(order["uid"])
        if order["override_permissions"]:
            keep_permission_override()
    if LINUX:  # last, since a change of user clears it
        prctl(PR_SET_PDEATHSIG, order["orphan_signal"])


def spawn(order: Order) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        order["command"],
        cwd=order["cwd"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        start_new_session=True,
        preexec_fn=lambda: prepare_child(order),
    )


def report(**message: int | str) -> None:
    with contextlib.suppress(OSError):  # nobody listens when the parent is gone
        os.write(sys.stdout.fileno(), (json.dumps(message) + "\n").encode())


class Minder:
    """Waits for orders and for the child's end."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.wakeup, wake = os.pipe()
        for end in (self.wakeup, wake):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake)
        # Handlers rather than SIG_IGN, which the child would inherit.
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        self.listening = [self.wakeup, sys.stdin.fileno()]
        self.stop_deadline: float | None = None
        self.child = spawn(order)

    def run(self) -> int:
        report(started=self.child.pid)
        while (status := self.reap()) is None:
            self.wait_for_news()
        self.kill_group()
        self.kill_orphans()
        return status

    def wait_for_news(self) -> None:
        timeout = None if self.stop_deadline is None else max(0.0, self.stop_deadline - time.monotonic())
        ready, _, _ = select.select(self.listening, [], [], timeout)
        if not ready:
            self.stop_deadline = None
            self.kill_group()
        if self.wakeup in ready and signal.SIGTERM in os.read(self.wakeup, 1024):
            self.stop()
        if sys.stdin.fileno() in ready:
            self.obey(os.read(sys.stdin.fileno(), 1024))

    def obey(self, orders: bytes) -> None:
        if not orders:
            self.listening.remove(sys.stdin.fileno())
            self.stop()
        for order in orders.split():
            if order == b"kill":
                self.kill_group()
            elif order == b"stop":
                self.stop()

    def stop(self) -> None:
        if self.stop_deadline is None:
            self.stop_deadline = time.monotonic() + self.order["stop_limit"]
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child.pid, self.order["stop_signal"])

    def kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.child.pid, signal.SIGKILL)

    def reap(self) -> int | None:
        """Collects what has ended; gives the child's exit code once it is among that."""
        status = None
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
                if ended[0] == self.child.pid:
                    status = os.waitstatus_to_exitcode(ended[1])
        return status

    def kill_orphans(self) -> None:
        """Kills what the child has left behind, which is handed to the minder generation by generation."""
        if not LINUX:
            return
        with contextlib.suppress(ChildProcessError):
            while True:
                for pid in own_children():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                os.waitpid(-1, 0)


def own_children() -> list[int]:
    """The pids of this process's children, by the parent that each process names in its status."""
    mine = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold blanks and brackets itself.
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid():
                mine.append(int(stat.parent.name))
    return mine


def main() -> None:
    if LINUX:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        minder = Minder(json.loads(sys.argv[1]))
    except (OSError, subprocess.SubprocessError) as error:
        report(failed=str(error))
        return
    report(exited=minder.run())


if __name__ == "__main__":
    main()
