"""Rules over HTTP: refused where they cannot be followed, held against the past, shown as they stand."""

from typing import Any

import httpx
import pytest_asyncio

from domain.analytics import HOUR_MS, MINUTE_MS
from storage import firings
from storage.database import Database
from tests.activities.reports import prepare
from tests.api.answers import done, refused
from tests.api.conftest import CONFIG
from tests.storage.calls import call, store

CHAT = "/api/v1/services/chat"
DRY_RUN = f"{CHAT}/rules/dry-run"
FAILING: dict[str, Any] = {"metric": "errors", "op": ">", "value": 0.05, "window": "5m"}
ALERT = {"type": "alert", "severity": "high"}


def rule(condition: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": "errors", "condition": condition or FAILING, "action": ALERT, **fields}


NOTHING: list[tuple[dict[str, Any], str]] = [
    ({"end": 1}, "end: "),
    ({"end": -1}, "end: "),
    ({"stepMs": 90_001}, "stepMs: "),
    ({"stepMs": 0}, "stepMs: "),
    ({"rules": [rule(), rule()]}, "rules: two rules of one name"),
    ({"rules": [rule(FAILING | {"value": 2})]}, "rules[0].condition.value: errors.rate lies in 0..1"),
    ({"rules": [rule(FAILING | {"value": None})]}, "rules[0].condition"),
    ({"rule": []}, "rule: "),
]

UNSOUND: list[tuple[dict[str, Any], str]] = [
    ({"rules": [rule(action={"type": "config_change", "set": {"topk": 3}})]}, "rules[0].action.set.topk"),
    ({"rules": [rule(action={"type": "config_change", "set": {}})]}, "rules[0].action"),
    ({"rules": [rule(action={"type": "rollback", "toVersion": "mail@1"})]}, "rules[0].action.toVersion"),
    ({"rules": [rule(action={"type": "rollback", "toVersion": "chat@9"})]}, "rules[0].action.toVersion"),
    ({"rules": [rule(), rule()]}, "body: Value error, two rules of one name"),
    ({"rules": [rule(FAILING | {"window": "2m"})]}, "rules[0].condition"),
    ({"rules": [rule(FAILING | {"metric": "speed"})]}, "rules[0].condition"),
    ({"rules": [rule({"all": []})]}, "rules[0].condition"),
    (
        {"triggers": [{"condition": FAILING | {"value": 5}, "cooldownMs": 1}]},
        "triggers[0].condition.value",
    ),
]


@pytest_asyncio.fixture
async def now(database: Database) -> int:
    """The last whole minute, by the database's clock."""
    pool = await database.pool()
    seconds = await pool.fetchval("SELECT extract(epoch FROM clock_timestamp())")
    return int(seconds * 1000) // MINUTE_MS * MINUTE_MS


@pytest_asyncio.fixture
async def hour(database: Database, client: httpx.AsyncClient, now: int) -> int:
    """A past hour's start. Of its ten calls a minute all fail from the 20th to the 29th minute."""
    await prepare(database)
    done(await client.put(CHAT, json={}))
    start = now - 2 * HOUR_MS
    calls = [
        call(start + minute * MINUTE_MS + 1000 * second, status_code=500 if 20 <= minute < 30 else 200)
        for minute in range(60)
        for second in range(10)
    ]
    await store(database, calls)
    return start


async def rehearsed(client: httpx.AsyncClient, start: int, *rules: dict[str, Any], **more: Any) -> Any:
    body = {"rules": list(rules), "start": start, "end": start + HOUR_MS} | more
    return done(await client.post(DRY_RUN, json=body))


async def test_a_rule_is_held_against_the_past(client: httpx.AsyncClient, hour: int) -> None:
    answer = await rehearsed(client, hour, rule(cooldownMs=300_000, maxPerDay=2))
    assert (answer["start"], answer["end"], answer["moments"]) == (hour, hour + HOUR_MS, 61)
    (found,) = answer["rules"]
    # More than 5 % of the last five minutes failed from the 21st minute's end to the 34th's.
    assert found["held"] == 14
    # Windows that began before the first report are not known.
    assert found["unknown"] == 5
    assert found["unknownBecause"] == "errors.rate over 5m is not known: nothing was read"
    assert found["firings"] == 2, "and no third, by the cap of a day"
    assert found["fired"] == [
        {"at": hour + 21 * MINUTE_MS, "words": "errors.rate 0.2 > 0.05 over 5m"},
        {"at": hour + 26 * MINUTE_MS, "words": "errors.rate 1 > 0.05 over 5m"},
    ]


async def test_windows_in_a_row_and_other_metrics(client: httpx.AsyncClient, hour: int) -> None:
    slow = {"metric": "latency.p95", "op": ">=", "value": 99, "window": "15m"}
    spent = {"metric": "cost.total", "op": ">=", "value": 1.2, "window": "1h"}
    silent = {"metric": "requests.count", "op": "<", "value": 1, "window": "1m"}
    answer = await rehearsed(
        client,
        hour,
        rule(FAILING | {"value": 0.99, "forWindows": 2}, id="twice"),
        rule({"all": [slow, {"not": FAILING}]}, id="slow"),
        rule(spent, id="spent"),
        rule(silent, id="silent", cooldownMs=0),
        end=hour + HOUR_MS + 2 * MINUTE_MS,
    )
    twice, slow_now, all_spent, is_silent = answer["rules"]
    assert [found["at"] for found in twice["fired"]] == [hour + 30 * MINUTE_MS]
    assert twice["fired"][0]["words"] == "errors.rate 1 > 0.99 over 5m, in each of 2 windows"
    assert slow_now["fired"][0]["at"] == hour + 15 * MINUTE_MS
    assert slow_now["fired"][0]["words"].startswith("latency.p95 ")
    assert [found["at"] for found in all_spent["fired"]] == [hour + HOUR_MS]
    assert all_spent["held"] == 1
    assert [found["at"] for found in is_silent["fired"]] == [
        hour + HOUR_MS + MINUTE_MS,
        hour + HOUR_MS + 2 * MINUTE_MS,
    ]


async def test_a_coarser_step_sees_the_same_at_its_own_moments(client: httpx.AsyncClient, hour: int) -> None:
    fine = (await rehearsed(client, hour, rule(cooldownMs=0)))["rules"][0]["fired"]
    coarse = await rehearsed(client, hour, rule(cooldownMs=0), stepMs=3 * MINUTE_MS)
    assert coarse["moments"] == 21
    assert coarse["rules"][0]["fired"] == [f for f in fine if (f["at"] - hour) % (3 * MINUTE_MS) == 0]


async def test_without_rules_the_saved_ones_are_tried(client: httpx.AsyncClient, hour: int) -> None:
    done(await client.put(CHAT, json={"rules": [rule(id="saved"), rule(id="off", enabled=False)]}))
    body = {"start": hour, "end": hour + HOUR_MS}
    answer = done(await client.post(DRY_RUN, json=body))
    assert [(found["rule"], found["firings"]) for found in answer["rules"]] == [("saved", 1), ("off", 1)]


async def test_what_the_analysis_did_not_record_is_unknown(client: httpx.AsyncClient, hour: int) -> None:
    answer = await rehearsed(client, hour, rule({"anomaly": "cost"}))
    (found,) = answer["rules"]
    assert (found["firings"], found["unknown"]) == (0, 61)
    assert found["unknownBecause"] == "whether an anomaly of cost.avg is open is not known"


async def test_a_dry_run_of_nothing_is_refused(client: httpx.AsyncClient, now: int) -> None:
    done(await client.put(CHAT, json={}))
    for change, message in NOTHING:
        body = {"rules": [rule()], "start": now - HOUR_MS, "end": now} | change
        error = refused(await client.post(DRY_RUN, json=body), 400, "INVALID_REQUEST")
        assert error["message"].startswith(message), error["message"]


async def test_a_dry_run_that_is_too_much_is_refused(client: httpx.AsyncClient, now: int) -> None:
    done(await client.put(CHAT, json={}))
    quarter = {"start": now - 80 * 24 * HOUR_MS, "end": now}
    error = refused(await client.post(DRY_RUN, json={"rules": [rule()]} | quarter), 400, "INVALID_REQUEST")
    assert error["message"].startswith("start: 115,205 pieces of 1 min")
    many = {"rules": [rule(FAILING | {"forWindows": 100})]} | quarter
    error = refused(await client.post(DRY_RUN, json=many), 400, "INVALID_REQUEST")
    assert error["message"].startswith("stepMs: 11,520,100 readings of windows are more than 200,000")
    enough = {"stepMs": 58 * MINUTE_MS}
    assert f"a stepMs of {enough['stepMs']}" in error["message"]
    days = rule(FAILING | {"window": "1h"})
    answer = done(await client.post(DRY_RUN, json={"rules": [days], "stepMs": HOUR_MS} | quarter))
    assert answer["moments"] == 80 * 24 + 1
    future = {"rules": [rule()], "start": now + HOUR_MS, "end": now + 2 * HOUR_MS}
    error = refused(await client.post(DRY_RUN, json=future), 400, "INVALID_REQUEST")
    assert error["message"] == "start: the future has not been recorded yet"
    until_now = {"rules": [rule()], "start": now - HOUR_MS, "end": now + HOUR_MS}
    assert done(await client.post(DRY_RUN, json=until_now))["end"] <= now + MINUTE_MS


async def test_of_an_unknown_service_nothing_is_said(client: httpx.AsyncClient, now: int) -> None:
    body = {"rules": [rule()], "start": now - HOUR_MS, "end": now}
    refused(await client.post(DRY_RUN, json=body), 404, "NOT_FOUND")
    refused(await client.get(f"{CHAT}/watch"), 404, "NOT_FOUND")


async def test_a_rule_that_cannot_be_followed_is_refused(client: httpx.AsyncClient) -> None:
    for policy, field in UNSOUND:
        error = refused(await client.put(CHAT, json=policy), 400, "INVALID_REQUEST")
        assert error["message"].startswith(field), error["message"]
    refused(await client.get(CHAT), 404, "NOT_FOUND")


async def test_conditions_nested_beyond_all_measure_are_refused(client: httpx.AsyncClient) -> None:
    condition = FAILING
    for _ in range(300):
        condition = {"not": condition}
    answer = await client.put(CHAT, json={"rules": [rule(condition)]})
    refused(answer, 400, "INVALID_REQUEST")


async def test_a_version_to_go_back_to_has_to_be_there(client: httpx.AsyncClient) -> None:
    update = {"service": "chat", "config": CONFIG, "reason": "first"}
    done(await client.post("/api/v1/config/update", json=update))
    back = {"rules": [rule(action={"type": "rollback", "toVersion": "chat@1"})]}
    saved = done(await client.put(CHAT, json=back))
    assert saved["rules"][0]["action"] == {"type": "rollback", "toVersion": "chat@1"}


async def test_how_rules_and_triggers_stand_is_shown(
    client: httpx.AsyncClient, database: Database, now: int
) -> None:
    await prepare(database)
    await store(database, [call(now - 1000 * n, status_code=500) for n in range(1, 31)])
    thin = {"metric": "quality", "op": "<", "value": 50, "window": "1h"}
    policy = {
        "rules": [rule(id="off", enabled=False), rule(thin, id="thin"), rule(priority=1)],
        "triggers": [{"condition": FAILING | {"value": 0.5}, "cooldownMs": 1000}],
        "maxRollbacksPerDay": 2,
    }
    done(await client.put(CHAT, json=policy))
    async with database.transaction() as session:
        await firings.record(session, "chat", "rule/errors", action="alert", words="then")
    answer = done(await client.get(f"{CHAT}/watch"))
    first, thin_one, trigger = answer["standing"]
    assert (first["kind"], first["id"], first["truth"]) == ("rule", "errors", "holds")
    assert first["words"] == "errors.rate 1 > 0.05 over 5m"
    assert first["waits"].startswith("its cooldown has 3")
    assert (first["lastWords"], first["lastFiredAt"] > now) == ("then", True)
    assert (thin_one["id"], thin_one["truth"], "waits" in thin_one) == ("thin", "unknown", False)
    assert (trigger["kind"], trigger["truth"], "lastFiredAt" in trigger) == ("trigger", "holds", False)
    brakes = {"breaker": "closed", "failures": [], "rollbacks": 0, "maxRollbacksPerDay": 2}
    assert (answer["service"], answer["state"], answer["brakes"]) == ("chat", "running", brakes)
