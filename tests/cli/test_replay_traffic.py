"""What is sent: the arrivals in time, wrapped around, each with its question, answered per model."""

import pytest

from cli.replaying.options import ReplayModel
from cli.replaying.tally import Tally
from cli.replaying.traces import Arrival, Outcome
from cli.replaying.traffic import Request, Served, Traffic, serve

ARRIVALS = [Arrival(0.0, 100, 10), Arrival(1.0, 200, 20), Arrival(4.0, 300, 30)]
OUTCOMES = [Outcome(n, (100, 50), (True, n % 2 == 0)) for n in range(50)]
MODELS = (ReplayModel("a", "p", "a", 400, 50), ReplayModel("b", "p", "b", 200, 100))


def test_requests_come_when_they_are_due_and_again_from_the_start() -> None:
    traffic = Traffic(ARRIVALS, OUTCOMES, seed=1)
    assert [request.due for request in traffic.until(1.0)] == [0.0, 1.0]
    assert traffic.until(3.9) == []
    assert traffic.passes == 1
    later = traffic.until(12.0)
    assert [request.due for request in later] == [4.0, 6.0, 7.0, 10.0, 12.0]
    assert [request.arrival.context_tokens for request in later] == [300, 100, 200, 300, 100]
    assert [request.number for request in later] == [2, 3, 4, 5, 6]
    assert traffic.passes == 3
    assert traffic.rate == 0.5


def test_a_seed_fixes_the_questions() -> None:
    def questions(seed: int, times: list[float]) -> list[int]:
        traffic = Traffic(ARRIVALS, OUTCOMES, seed=seed)
        return [request.outcome.prompt_tokens for due in times for request in traffic.until(due)]

    assert questions(1, [60.0]) == questions(1, [1.0, 30.0, 60.0])
    assert questions(1, [60.0]) != questions(2, [60.0])
    assert len(set(questions(1, [600.0]))) == len(OUTCOMES)


def test_answers_are_scaled_and_cut_and_timed_by_the_model() -> None:
    request = Request(0, 0.0, Arrival(0.0, 700, 240), Outcome(70, (120, 60), (True, False)))
    assert serve(request, MODELS, 0, max_tokens=1024) == Served(700, 240, 400 + 240 / 50 * 1000, 100.0)
    assert serve(request, MODELS, 1, max_tokens=1024) == Served(700, 120, 200 + 120 / 100 * 1000, 0.0)
    assert serve(request, MODELS, 0, max_tokens=50).tokens_output == 50


def test_the_tally_tells_phases_and_arms_apart() -> None:
    tally = Tally()
    for latency in (100.0, 300.0):
        tally.add("before", None, "s@1", "p/a", Served(1, 1, latency, 100.0), 0.25)
    tally.add("before", None, "s@0", "p/a", Served(1, 1, 900.0, 0.0), 0.5)
    tally.add("rollout", "control", "s@1", "p/a", Served(1, 1, 1.0, 0.0), 1.0)
    tally.add("rollout", "canary", "s@2", "p/b", Served(1, 1, 1.0, 0.0), None)
    tally.add("after", None, "s@2", "p/b", Served(1, 1, 1.0, 0.0), 0.5)
    before, control, canary, after = (
        tally.phase("before"),
        tally.arm("control"),
        tally.arm("canary"),
        tally.phase("after"),
    )
    assert before is not None
    assert before.to_json() == {
        "version": "s@1",
        "model": "p/a",
        "requests": 2,
        "cost": 0.25,
        "latency": pytest.approx(290.0),
        "latencyAvg": 200.0,
        "errors": 0.0,
        "quality": 100.0,
    }
    assert control is not None
    assert control.cost_avg == 1.0
    assert canary is not None
    assert canary.cost_avg is None
    assert after is not None
    assert (after.version, tally.sent) == ("s@2", 6)
    assert Tally().phase("after") is None
