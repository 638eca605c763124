"""Whether what participants did is what the server knows of them."""

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from domain.pricing import price
from tests.api.answers import done
from tests.conformance.participants import Participant
from tests.conformance.playing import Played
from tests.conformance.scenario import CALL_MS, SERVICE, Call, Rollout
from tests.waiting import until

TOKENS = ("tokens.input", "tokens.output", "tokens.total")
SUMS = ("requests.count", "errors.count", "cost.total", *TOKENS)
MEANS = ("latency.avg", "quality.avg")

Arm = tuple[str, str | None]
"""An endpoint, which is a participant's name, and a version, None where calls were reported without one."""


def require_configs(participant: Participant, played: Played, rollout: Rollout, *, away: bool) -> None:
    """Each unit got what the rule says; while the server was `away`, some may have had what is their own."""
    for asked, answer in played.calls:
        version = answer["version"]
        if version is None:
            assert away, (asked, answer)
            assert not participant.keeps_config, (asked, answer)
        else:
            assert version == rollout.version(asked["unit"]), (asked, answer)
        config = rollout.config(version)
        assert (answer["model"], answer["temperature"]) == (config["model"], config["temperature"])
    versions = {answer["version"] for _, answer in played.calls}
    assert versions >= {rollout.control, rollout.canary}


def require_short(participant: Participant, played: Played) -> None:
    """No call was held up, but perhaps the first, which may wait for the first configuration."""
    longest = max(answer["tookMs"] for _, answer in played.calls[1:])
    assert longest < 1000 * participant.patience


async def counted(server: httpx.AsyncClient, since: int, calls: int) -> dict[Arm, dict[str, float]]:
    """The analytics of every participant's arms, once they know of so many calls; tokens are summed up.

    `since` is in ms since the epoch.
    """

    async def all_are() -> bool:
        (sum_,) = (await _asked(server, since, ["requests.count"], [])).values()
        return bool(sum_["requests.count"] >= calls)

    await until(all_are, seconds=90)
    found = await _asked(server, since, [*SUMS, *MEANS], ["endpoint", "configVersion"])
    for values in found.values():
        # As they are asked for they are means of the calls that did not fail.
        successes = values["requests.count"] - values["errors.count"]
        values.update({name: values[name] * successes for name in TOKENS if successes})
    return found


async def _asked(
    server: httpx.AsyncClient, since: int, metrics: list[str], by: list[str]
) -> dict[Any, dict[str, float]]:
    query = {
        "services": [SERVICE],
        "metrics": metrics,
        "groupBy": by,
        # Another end each time, so that no earlier answer is given again.
        "timeRange": {"start": since, "end": time.time_ns() // 1_000_000 + 60_000},
    }
    found: dict[Any, dict[str, float]] = {}
    for series in done(await server.post("/api/v1/analytics/metrics", json=query))["metrics"]:
        for point in series["dataPoints"]:
            labels = point.get("dimensions", {})
            group = (labels.get("endpoint"), labels.get("configVersion"))
            found.setdefault(group, {})[series["metric"]] = point["value"]
    return found


def require_counted(
    participant: Participant, played: Played, found: Mapping[Arm, Mapping[str, float]]
) -> None:
    """What was reported is there once, as its arm's; of what is uncertain any part may be."""
    arms = {answer["version"] for _, answer in played.calls}
    seen = {version for endpoint, version in found if endpoint == participant.name}
    certain = [pair for pair in played.calls if pair[0]["requestId"] not in played.uncertain]
    assert {answer["version"] for _, answer in certain} <= seen <= arms
    for version in seen:
        values = found[participant.name, version]
        least = _sums(participant, (pair for pair in certain if pair[1]["version"] == version))
        most = _sums(participant, (pair for pair in played.calls if pair[1]["version"] == version))
        for name in SUMS:
            close = 1e-9 * max(1.0, most[name])
            assert least[name] - close <= values[name] <= most[name] + close, (name, version)
        assert CALL_MS <= values["latency.avg"] < 1000
        scores = [asked["score"] for asked, answer in played.calls if answer["version"] == version]
        judged = [score for score in scores if score is not None]
        if participant.judges and judged and not played.uncertain:
            assert math.isclose(values["quality.avg"], math.fsum(judged) / len(judged)), version


def require_total(played: Mapping[str, Played], found: Mapping[Arm, Mapping[str, float]]) -> None:
    """The service has the calls of its participants and no others."""
    reported = [pair for one in played.values() for pair in one.calls]
    uncertain = sum(len(one.uncertain) for one in played.values())
    count = sum(values["requests.count"] for values in found.values())
    assert len(reported) - uncertain <= count <= len(reported)
    assert {endpoint for endpoint, _ in found} == set(played)


def _sums(participant: Participant, calls: Iterable[tuple[Call, dict[str, Any]]]) -> dict[str, float]:
    sums = dict.fromkeys(SUMS, 0.0)
    for asked, answer in calls:
        sums["requests.count"] += 1
        sums["errors.count"] += asked["failed"]
        sums["tokens.input"] += asked["tokensInput"]
        sums["tokens.output"] += asked["tokensOutput"]
        sums["tokens.total"] += asked["tokensInput"] + asked["tokensOutput"]
        sums["cost.total"] += _cost(participant, asked, answer["model"])
    return sums


def _cost(participant: Participant, asked: Call, model: str) -> float:
    if not participant.priced or asked["failed"]:
        return asked["costUsd"]
    listed = price("openai", model, asked["tokensInput"], asked["tokensOutput"])
    assert listed is not None
    return listed
