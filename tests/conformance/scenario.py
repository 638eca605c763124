"""What every participant lives through: a rollout, and calls of which some fail and some are judged."""

from dataclasses import dataclass
from typing import Any, TypedDict

import httpx
import mmh3

from domain.policy import GUARDRAIL_METRICS
from tests.api.answers import done
from tests.api.conftest import CONFIG
from tests.waiting import until

SERVICE = "conformance"
SHARE = 25.0
UNITS = tuple(f"user-{number}" for number in range(200))
CALL_MS = 1.0

CONTROL = CONFIG | {"model": "gpt-4o", "temperature": 0.5}
CANARY = CONFIG | {"model": "gpt-4o-mini", "temperature": 0.25}
# What an application has in its own code. Its model is of neither arm, and tells a call that was made by it.
DEFAULT = CONFIG | {"model": "gpt-4", "temperature": 0.75}


class Call(TypedDict):
    """A call as a participant is asked to make it, and to report it; `score` is None where nobody judges it.

    `costUsd` is what it is to report; what it has no way to report the server prices.
    """

    unit: str
    requestId: str
    latencyMs: float
    tokensInput: int
    tokensOutput: int
    costUsd: float
    failed: bool
    score: float | None


def call(participant: str, number: int) -> Call:
    """The call of a number, from 0. A tenth fails, and of the others about a third is judged."""
    failed = number % 10 == 3
    return {
        "unit": UNITS[number % len(UNITS)],
        "requestId": f"{participant}-{number}",
        "latencyMs": CALL_MS,
        "tokensInput": 0 if failed else 100 + number % 37,
        "tokensOutput": 0 if failed else 10 + number % 11,
        "costUsd": 0.0 if failed else (1 + number % 29) / 1024,
        "failed": failed,
        "score": None if failed or number % 3 else 40.0 + number % 53,
    }


@dataclass(frozen=True, slots=True)
class Rollout:
    """The rollout under which all calls are made."""

    deployment_id: str
    control: str
    canary: str

    def version(self, unit: str) -> str:
        """Which version a unit gets, as assignment.json says it."""
        hashed = mmh3.hash(f"{self.deployment_id}:{unit}".encode(), 0, signed=False)
        return self.canary if hashed % 10_000 < SHARE * 100 else self.control

    def config(self, version: str | None) -> dict[str, Any]:
        """What a version says; None is what a participant has in its own code."""
        return {self.control: CONTROL, self.canary: CANARY, None: DEFAULT}[version]


async def begin(server: httpx.AsyncClient) -> Rollout:
    """Start a rollout that stays at its first step for a day, whatever is reported.

    It counts as watched for hours: who cannot reach the server for minutes has its canary all the same.
    """
    policy = {
        "rollout": {"steps": [SHARE, 100], "stepSeconds": 86_400, "checkSeconds": 3600},
        "guardrails": [{"metric": metric, "enabled": False} for metric in GUARDRAIL_METRICS],
    }
    done(await server.put(f"/api/v1/services/{SERVICE}", json=policy))
    update = {"service": SERVICE, "config": CONTROL, "reason": "the first"}
    control = done(await server.post("/api/v1/config/update", json=update))["version"]
    update |= {"config": CANARY, "reason": "cheaper", "deploymentStrategy": "canary"}
    begun = done(await server.post("/api/v1/config/update", json=update))
    rollout = Rollout(begun["deploymentId"], control, begun["version"])

    async def served() -> bool:
        answer = done(await server.get(f"/api/v1/config/service/{SERVICE}"))
        return bool(answer.get("rollout", {}).get("trafficPercent") == SHARE)

    await until(served)
    return rollout
