"""The intake's benchmark, in short; `python -m bench.ingest` runs it in full."""

import pytest

from bench.ingest import Rounds, figures, judged, run
from bench.load import Load, reports, requests
from bench.replicas import replicas
from domain.label_limits import LabelLimits
from domain.reports import parse_metrics
from storage import samples


async def test_every_path_is_measured_by_rows_in_the_table() -> None:
    found = await run(1, 2_000, [100, 1_000])
    assert (found["rounds"], found["events"]) == (1, 2_000)
    assert found["copyPerSecond"] > 0
    assert found["rolledUpPerSecond"] > 0
    assert min(found["twoProcesses"].values()) > 0
    assert len(judged(found, [100, 1_000])) == 6
    for batch in (100, 1_000):
        measured = found[f"batches{batch}"]
        assert min(measured["committedPerSecond"], measured["bufferedPerSecond"]) > 0
        for ack in ("commit", "buffer"):
            answers = measured["answers"][ack]
            assert answers["statuses"]["200"] == 2_000 // batch
            assert 0 < answers["p50"] <= answers["p99"]


async def test_rows_that_are_not_the_loads_are_noticed() -> None:
    async with replicas(1, temporal=False) as where:
        connection = await samples.connect_for_copy(where.database)
        rounds = Rounds(where, connection, 1_000)
        await rounds.intake(100, "commit")
        rounds = Rounds(where, connection, 500)
        with pytest.raises(RuntimeError, match="1000 rows of 500 events"):
            await rounds.all_seen(500)
        await connection.close()


def test_ratios_are_of_medians() -> None:
    speeds = {"copy": [100.0, 300.0, 200.0], "commit100": [50.0, 40.0, 60.0], "buffer100": [100.0] * 3}
    speeds["rollingUp"] = [30.0, 40.0, 20.0]
    answers = {"commit100": {"p50": 1.0}, "buffer100": {"p50": 2.0}}
    found = figures(speeds, answers, [100])
    assert found["copyPerSecond"] == 200
    measured = found["batches100"]
    assert (measured["ofCopy"], measured["bufferedOfCopy"], measured["ofBuffered"]) == (0.25, 0.5, 0.5)
    assert found["rolledUpOfCommitted"] == 0.6
    found["twoProcesses"] = {"ofApart": 0.79}
    assert [gate.to_json()["met"] for gate in judged(found, [100])] == [False] * 4


def test_the_load_is_what_a_seed_says_and_all_of_it_is_good() -> None:
    assert [report.latency_ms for report in reports(20, 7)] == [
        report.latency_ms for report in reports(20, 7)
    ]
    load = Load("http://127.0.0.1:1/api/v1/metrics?ack=buffer", "k", events=500, batch=100, connections=2)
    encoded = requests(load)
    assert len(encoded) == 5
    head, _, body = encoded[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/v1/metrics?ack=buffer HTTP/1.1\r\nHost: 127.0.0.1:1\r\n")
    now = max(report.timestamp for report in reports(1, 1))
    parsed = parse_metrics(body, now, LabelLimits())
    assert (len(parsed.accepted), parsed.rejected) == (100, [])
