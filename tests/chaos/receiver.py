"""An endpoint for webhooks as a process that can be killed: `python -m tests.chaos.receiver PORT FILE`.

It writes a line to the file for each event, before it answers: the scope, and the event's number.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from infra.ports import choose
from tests.activities.receiver import Answer, Received, Receiver
from tests.chaos.processes import ROOT
from tests.waiting import until


class ReceiverProcess:
    """Dead until it is started, and again after it was killed; always on the same port."""

    def __init__(self, taken: Path) -> None:
        self.port = choose(None)
        self._taken = taken
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.chaos.receiver", str(self.port), str(self._taken), cwd=ROOT
        )

    async def kill(self) -> None:
        """End it by SIGKILL, requests under way included."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def taken(self) -> list[tuple[str, int]]:
        """The scope and number of each event, in the order of arrival, repetitions included."""
        if not self._taken.exists():
            return []
        # A kill may leave a line half written; its event was not answered.
        lines = self._taken.read_text(encoding="utf-8").splitlines(keepends=True)
        pairs = [line.split() for line in lines if line.endswith("\n")]
        return [(scope, int(number)) for scope, number in pairs]

    async def until_taken(self, count: int) -> None:
        async def reached() -> bool:
            return len(self.taken()) >= count

        await until(reached)


@asynccontextmanager
async def receiver_process(taken: Path) -> AsyncIterator[ReceiverProcess]:
    """A receiver that runs, and whatever the test does to it, is gone at the end."""
    receiver = ReceiverProcess(taken)
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.kill()


async def main(port: int, taken: Path) -> None:
    with taken.open("a", buffering=1, encoding="utf-8") as file:

        def decide(request: Received) -> Answer:
            file.write(f"{request.scope} {request.number}\n")
            return Answer()

        receiver = Receiver(keep=False)
        receiver.port, receiver.decide = port, decide
        await receiver.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
