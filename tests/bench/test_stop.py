"""The emergency stop's benchmark, in short; `python -m bench.stop` runs it in full."""

from bench.stop import run


async def test_every_replica_serves_what_is_known_good_after_a_stop() -> None:
    found = await run(rounds=2, scopes=3)
    assert (found["rounds"], found["scopes"]) == (2, 3)
    assert 0 < found["p50"] <= found["p99"] == found["max"]
