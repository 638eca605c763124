"""The benchmark of configuration reads, in short; `python -m bench.config_reads` runs it in full.

It fails by itself where an answer is not what it should be.
"""

from urllib.parse import urlsplit

import pytest

from bench import hello, read_load
from bench.config_reads import judged, run
from bench.read_load import Order
from bench.replicas import listening

READS = {
    "current",
    *(f"{of}{how}" for of in ("service", "rollout") for how in ("", "Unit", "NewUnit", "Unchanged")),
}


async def test_every_read_is_answered_and_compared() -> None:
    found = await run(rounds=1, seconds=0.1, connections=4)
    assert set(found) == {"hello", "reads", "rolloutCosts", "twoProcesses"}
    assert set(found["reads"]) == READS
    assert len(judged(found)) == len(READS) + len(found["rolloutCosts"]) + 1
    for name, figures in found["reads"].items():
        assert figures["status"] == (304 if name.endswith("Unchanged") else 200)
        assert figures["perSecond"] > 0
        assert figures["ratio"] > 0
    assert set(found["rolloutCosts"]) == {"", "Unit", "NewUnit", "Unchanged"}
    assert found["twoProcesses"]["coresAllow"] > 0


@pytest.mark.parametrize(("status", "body"), [(200, "pong"), (200, "Hello"), (404, hello.BODY.decode())])
async def test_an_answer_that_is_not_expected_is_told(status: int, body: str) -> None:
    async with listening("-m", "bench.hello") as process:
        found = await read_load.run(
            Order(
                host="127.0.0.1",
                port=urlsplit(process.address).port or 0,
                requests=["GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
                status=status,
                bodies=[body],
                seconds=60,
                connections=2,
            )
        )
    assert found.answered == 0
    assert (found.wrong or "").startswith("HTTP/1.1 200 OK")
