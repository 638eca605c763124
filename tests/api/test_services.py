"""Policies over HTTP: defaults shown, faults named, replaced as a whole."""

from typing import Any

import httpx
import pytest

from tests.api.answers import done, refused

CHAT = "/api/v1/services/chat"

BAD: list[tuple[dict[str, Any], str]] = [
    ({"objectives": []}, "objectives"),
    ({"objectives": [{"metric": "speed", "goal": "minimize", "weight": 1}]}, "objectives[0].metric"),
    ({"objectives": [{"metric": "cost", "goal": "lower", "weight": 1}]}, "objectives[0].goal"),
    ({"objectives": [{"metric": "cost", "goal": "minimize", "weight": 0}]}, "objectives[0].weight"),
    ({"objectives": [{"metric": "cost", "goal": "minimize"}]}, "objectives[0].weight"),
    ({"constraints": [{"type": "firm", "models": ["m"]}]}, "constraints[0].type"),
    ({"constraints": [{"type": "hard"}]}, "constraints[0]"),
    ({"constraints": [{"type": "hard", "metric": "cost"}]}, "constraints[0]"),
    ({"constraints": [{"type": "hard", "metric": "cost", "min": 2, "max": 1}]}, "constraints[0]"),
    ({"constraints": [{"type": "hard", "cooldownMs": -1}]}, "constraints[0].cooldownMs"),
    ({"searchSpace": {"models": [{"provider": "p"}]}}, "searchSpace.models[0].model"),
    (
        {"searchSpace": {"models": [{"provider": "p", "model": "m", "score": 101}]}},
        "searchSpace.models[0].score",
    ),
    ({"searchSpace": {"temperature": {"min": 1, "max": 0}}}, "searchSpace.temperature"),
    ({"searchSpace": {"temperature": {"min": 0, "max": 3}}}, "searchSpace"),
    ({"rules": [{"id": "r"}]}, "rules[0]."),
    ({"rollout": {"strategy": "blue-green"}}, "rollout.strategy"),
    ({"rollout": {"steps": []}}, "rollout.steps"),
    ({"rollout": {"steps": [50, 25, 100]}}, "rollout"),
    ({"rollout": {"steps": [5, 50]}}, "rollout"),
    ({"rollout": {"stepSeconds": 0}}, "rollout.stepSeconds"),
    ({"rollout": {"stepSeconds": 10, "checkSeconds": 20}}, "rollout"),
    ({"rollout": {"maxExtensions": -1}}, "rollout.maxExtensions"),
    ({"rollout": {"onInconclusive": "wait"}}, "rollout.onInconclusive"),
    ({"rollout": {"approval": "always"}}, "rollout.approval"),
    ({"rollout": {"holdbackPercent": 51}}, "rollout.holdbackPercent"),
    ({"guardrails": [{"metric": "tokens.total"}]}, "guardrails[0]"),
    ({"guardrails": [{"metric": "quality", "ceiling": 5}]}, "guardrails[0]"),
    ({"schedule": {"everySeconds": 1}}, "schedule.everySeconds"),
    ({"schedule": None}, "schedule"),
    ({"triggers": [{"cooldownMs": 1}]}, "triggers[0].condition"),
    ({"mode": "best"}, "mode"),
    ({"maxRollbacksPerDay": -1}, "maxRollbacksPerDay"),
    ({"breakerAfter": 0}, "breakerAfter"),
    ({"retentionDays": 0}, "retentionDays"),
    ({"automatic": "yes"}, "automatic"),
    ({"automatik": True}, "automatik"),
    ({"service": "mail"}, "service"),
]


@pytest.mark.parametrize(("policy", "field"), BAD)
async def test_a_bad_policy_is_refused_by_field(
    client: httpx.AsyncClient, policy: dict[str, Any], field: str
) -> None:
    error = refused(await client.put(CHAT, json=policy), 400, "INVALID_REQUEST")
    assert error["message"].startswith(field)
    refused(await client.get(CHAT), 404, "NOT_FOUND")


async def test_defaults_are_shown_and_what_is_given_is_kept(client: httpx.AsyncClient) -> None:
    policy = done(await client.put(CHAT, json={"rollout": {"steps": [10, 100]}}))
    assert policy == done(await client.get(CHAT))
    assert policy["rollout"] == {
        "strategy": "canary",
        "steps": [10.0, 100.0],
        "stepSeconds": 3.0,
        "checkSeconds": 0.3,
        "maxExtensions": 3,
        "onInconclusive": "hold",
        "approval": "none",
        "holdbackPercent": 5.0,
    }
    assert [objective["metric"] for objective in policy["objectives"]] == [
        "cost.avg",
        "latency.p95",
        "quality.avg",
    ]
    assert (policy["service"], policy["automatic"], policy["schedule"]["enabled"]) == ("chat", True, False)
    replaced = done(await client.put(CHAT, json={"service": "chat", "automatic": False}))
    assert replaced["rollout"]["steps"] == [5.0, 25.0, 50.0, 100.0]
    listed = done(await client.get("/api/v1/services"))
    assert listed == {"total": 1, "services": [replaced]}


async def test_contradictory_constraints_are_refused(client: httpx.AsyncClient) -> None:
    bounds = [
        {"id": "floor", "type": "hard", "metric": "quality", "min": 80},
        {"id": "roof", "type": "hard", "metric": "quality", "max": 60},
    ]
    error = refused(await client.put(CHAT, json={"constraints": bounds}), 400, "INVALID_REQUEST")
    assert error["message"].startswith("constraints")


@pytest.mark.parametrize("name", ["global", "-a", "a:b", "x" * 129])
async def test_a_name_that_no_service_can_have(client: httpx.AsyncClient, name: str) -> None:
    refused(await client.put(f"/api/v1/services/{name}", json={}), 400, "INVALID_REQUEST")
