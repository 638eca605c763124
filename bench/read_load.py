"""Load of plain reads from a process of its own: `python -m bench.read_load`.

It takes its order as JSON on standard input, and prints one line of JSON.

Each connection sends a request, waits for the whole answer, and sends the next: keep-alive, no pipelining.
Every answer is compared, status and body.
"""

import asyncio
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any, cast

import uvloop

PATIENCE_SECONDS = 30.0
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Order:
    """What to ask, in turns, and what may be answered: a status, and any of some bodies."""

    host: str
    port: int
    requests: list[str]
    status: int
    bodies: list[str]
    seconds: float
    connections: int


@dataclass(frozen=True, slots=True)
class Load:
    """What came of an order. `cpu_seconds` are the generator's own, `wrong` the first answer that was."""

    answered: int
    seconds: float
    cpu_seconds: float
    wrong: str | None

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds


async def run(order: Order) -> Load:
    """Carry out an order in a fresh process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "bench.read_load"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate(json.dumps(asdict(order)).encode())
    if process.returncode:
        raise RuntimeError("the load generator failed")
    return Load(**json.loads(printed))


class _Generator:
    """What the connections share."""

    def __init__(self, order: Order) -> None:
        self.requests = cycle([request.encode() for request in order.requests])
        self.status = f"HTTP/1.1 {order.status} ".encode()
        self.bodies = frozenset(body.encode() for body in order.bodies)
        self.longest = max(map(len, self.bodies))
        self.answered = 0
        self.until = time.monotonic() + order.seconds
        self.wrong: str | None = None

    def expects(self, head: bytes, body: bytes) -> bool:
        """Whether an answer is one of those expected. A part of one is not."""
        return head.startswith(self.status) and body in self.bodies


class _Connection(asyncio.Protocol):
    def __init__(self, generator: _Generator) -> None:
        self._generator = generator
        self._got = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not registered as asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(next(self._generator.requests))

    def data_received(self, data: bytes) -> None:
        generator = self._generator
        self._got = data = self._got + data if self._got else data
        head, separator, body = data.partition(_END)
        if generator.expects(head, body):
            generator.answered += 1
            self._got = b""
            if time.monotonic() < generator.until:
                self._transport.write(next(generator.requests))
            else:
                self._transport.close()
        elif separator and (len(body) >= generator.longest or not head.startswith(generator.status)):
            generator.wrong = generator.wrong or data.decode("latin-1")
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if time.monotonic() < self._generator.until:
            self._generator.wrong = self._generator.wrong or f"the connection ended: {error}"
        self.ended.set_result(None)


async def _generate(order: Order) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    generator = _Generator(order)
    began = time.monotonic()
    opened = [
        await loop.create_connection(lambda: _Connection(generator), order.host, order.port)
        for _ in range(order.connections)
    ]
    async with asyncio.timeout(order.seconds + PATIENCE_SECONDS):
        await asyncio.gather(*(connection.ended for _, connection in opened))
    seconds = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    load = Load(generator.answered, seconds, used.ru_utime + used.ru_stime, generator.wrong)
    return asdict(load)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_generate(Order(**json.load(sys.stdin))))))
