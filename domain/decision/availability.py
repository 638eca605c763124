"""Which models cannot be called: told by whoever asks, or seen in calls that all failed lately."""

from collections.abc import Sequence

from domain.decision.history import Observation
from domain.decision.problem import DecisionProblem

MIN_CALLS = 5
"""Calls of a model that have to fail before it counts as gone."""

FAILED_FOR_MS = 86_400_000
"""How long the last failures alone keep a model out; after that it may be tried again."""


def unavailable(problem: DecisionProblem) -> dict[str, str]:
    """`provider/model` of each model that is not to be proposed, and why.

    The last observation of a model counts: one without a single success among its calls makes it
    unavailable for a day. An observation of no known time is taken for new.
    """
    gone = dict.fromkeys(_named(problem), "it is said to be gone")
    latest: dict[str, list[Observation]] = {}
    for observation in problem.history:
        if observation.n > 0:
            latest.setdefault(observation.config.model_key, []).append(observation)
    for key, observations in latest.items():
        last = _last(observations, problem.now)
        calls = sum(observation.n for observation in last)
        if calls >= MIN_CALLS and all(_failed(o) for o in last) and _lately(last, problem.now):
            gone.setdefault(key, f"all of its last {calls:,} calls failed")
    return gone


def _named(problem: DecisionProblem) -> list[str]:
    """Models are named `provider/model` or `model`."""
    keys = [entry.key for entry in problem.search_space.models] or [problem.incumbent.model_key]
    return [key for key in keys if {key, key.partition("/")[2]} & set(problem.unavailable)]


def _last(observations: Sequence[Observation], now: int) -> list[Observation]:
    """The newest of a model's observations: all that share the latest time."""
    newest = max(_time(observation, now) for observation in observations)
    return [observation for observation in observations if _time(observation, now) == newest]


def _lately(observations: Sequence[Observation], now: int) -> bool:
    return all(now - _time(observation, now) < FAILED_FOR_MS for observation in observations)


def _time(observation: Observation, now: int) -> int:
    return now if observation.observed_at is None else observation.observed_at


def _failed(observation: Observation) -> bool:
    """Whether no call succeeded: nothing was measured of a success, and the errors are all of the calls.

    A rate of errors that was smoothed lies half a call below 1.
    """
    if any(name.startswith(("latency.", "quality.")) for name in observation.metrics):
        return False
    errors = observation.metrics.get("errors.rate")
    return errors is not None and errors.mean * (observation.n + 1) >= observation.n + 0.5 - 1e-6
