"""The benchmark of kills, in short; `python -m bench.kills` runs it in full."""

from bench.kills import MODES, judged, run


async def test_what_a_kill_loses_is_counted_in_each_mode() -> None:
    found = await run(kills=1, batches=60, rate=2_000)
    assert set(found) == set(MODES)
    for figures in found.values():
        assert figures["reports"] == 6_000
        assert len(figures["reachedPerSecond"]) == 1
        assert figures["duplicates"] == figures["lostAfterRetry"] == 0
    assert found["commit"]["lost"] == [0, 0]
    assert len(judged(found)) == 8


def test_what_misses_a_gate_is_named() -> None:
    good = {"offeredPerSecond": 10_000, "reachedPerSecond": [9_000, 10_000]}
    good |= {"lost": [0, 0], "duplicates": 0, "lostAfterRetry": 0}
    assert all(gate.to_json()["met"] for gate in judged(dict.fromkeys(MODES, good)))
    bad = good | {"reachedPerSecond": [8_000], "lost": [0, 10_001], "duplicates": 1, "lostAfterRetry": 1}
    assert not any(gate.to_json()["met"] for gate in judged(dict.fromkeys(MODES, bad)))
