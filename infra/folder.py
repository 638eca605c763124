"""The data folder: one stack at a time, and nothing left over from the one before."""

import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

import psutil

from infra.cache import lock_file
from infra.errors import FolderInUse

# How long the components of a stack that was killed may take to end.
LEFTOVER_LIMIT_SECONDS = 20.0
# A process's time of birth is derived from the machine's, which a corrected clock moves.
SAME_PROCESS_SECONDS = 2.0


class FolderLock:
    """A lock on the folder that lasts as long as this process or any component started under it.

    It is an flock on an open file; the minders of the components inherit the file, so that the lock
    is free only when all of them have ended, even after this process was killed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "lock"
        self._file = -1

    @property
    def descriptor(self) -> int:
        """The open file to hand to each minder."""
        return self._file

    async def acquire(self) -> None:
        """Takes the lock, waiting only for components whose stack is gone.

        Raises:
            FolderInUse: a stack that lives holds it, or components that do not end.
        """
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LEFTOVER_LIMIT_SECONDS
        while not lock_file(self._file):
            holder = self._read_holder()
            if holder is not None or time.monotonic() > deadline:
                self.release()
                raise self._refusal(holder)
            await asyncio.sleep(0.05)
        note = {"pid": os.getpid(), "created": psutil.Process().create_time()}
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(note).encode(), 0)

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read_holder(self) -> int | None:
        """The process that noted itself in the file, where it still lives."""
        with contextlib.suppress(ValueError, KeyError, psutil.NoSuchProcess):
            note = json.loads(os.pread(self._file, 1024, 0))
            holder = psutil.Process(note["pid"])
            same = abs(holder.create_time() - note["created"]) < SAME_PROCESS_SECONDS
            if same and holder.status() != psutil.STATUS_ZOMBIE:
                return holder.pid
        return None

    def _refusal(self, holder: int | None) -> FolderInUse:
        if holder is None:
            detail = "is still held by components of a stack that has ended"
        else:
            detail = f"is in use by process {holder}; stop that one, or choose another folder"
        return FolderInUse(self.folder, holder, detail)


def end_leftovers(program: Path, folder: Path) -> None:
    """Kills processes of the program that still work in the folder.

    To be called under the folder's lock, where none can be in use any more: a minder that was
    killed leaves its child running where the system has no way to bind the two.
    """
    leftovers = [process for process in psutil.process_iter() if _works_in(process, program, folder)]
    for process in leftovers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(leftovers, timeout=LEFTOVER_LIMIT_SECONDS)


def _works_in(process: psutil.Process, program: Path, folder: Path) -> bool:
    try:
        running = Path(process.exe().removesuffix(" (deleted)"))
        return running.name == program.name and Path(process.cwd()).is_relative_to(folder)
    except psutil.Error:
        return False
