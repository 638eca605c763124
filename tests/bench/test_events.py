"""The event benchmark, in short; `python -m bench.events` runs it in full."""

from bench.events import run
from bench.replicas import percentile


async def test_every_replica_brings_every_event_in_order() -> None:
    found = await run(30, 100)
    assert set(found) == {"withRedis", "withoutRedis"}
    for figures in [*found["withRedis"], *found["withoutRedis"]]:
        assert (figures["events"], figures["inOrder"]) == (30, True)
        assert 0 < figures["p50"] <= figures["p99"] <= figures["max"]


def test_percentiles_are_by_nearest_rank() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert percentile([3.0], 99) == 3
