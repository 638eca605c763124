"""What the analysis finds, over HTTP: anomalies, trends, changes and what they are compared with."""

from typing import Any

import httpx
import pytest
import pytest_asyncio

from domain.analysis.watched import WATCHED_WINDOWS
from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from storage import analysis, baseline_refresh, detection, findings, services
from storage.database import Database
from tests.api.answers import done, refused
from tests.storage import minutes
from tests.storage.records import first_config

ANOMALIES, TRENDS, CHANGES, BASELINES = (
    f"/api/v1/analytics/{name}" for name in ("anomalies", "trends", "changes", "baselines")
)


@pytest_asyncio.fixture
async def now(database: Database) -> int:
    async with database.transaction() as session:
        await services.note(session, ["chat", "mail"])
    return await minutes.clock(database)


async def detect(database: Database) -> None:
    for window in WATCHED_WINDOWS:
        while True:
            async with database.transaction() as session:
                if await detection.advance(session, window) is None:
                    break


async def refresh(database: Database, now: int) -> None:
    async with database.transaction() as session:
        await baseline_refresh.refresh(session, ["chat", "mail"], now)


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = done(await client.get(path, params=params))
    return found


@pytest_asyncio.fixture
async def slow(database: Database, now: int) -> int:
    """Slow answers of `chat` half an hour ago, and of `mail` until now; gives when both began."""
    began = now - 30 * MINUTE_MS
    await first_config(database, "chat")
    for service in ("chat", "mail"):
        await minutes.had(database, now - 100 * MINUTE_MS, began, service=service)
    await minutes.had(database, began, began + 5 * MINUTE_MS, latency_ms=300.0)
    await minutes.had(database, began + 5 * MINUTE_MS, now)
    await minutes.had(database, began, now, service="mail", latency_ms=150.0)
    await minutes.roll_up(database)
    await detect(database)
    return began


async def test_anomalies_are_found_by_their_parts_and_by_pages(client: httpx.AsyncClient, slow: int) -> None:
    found = await get(client, ANOMALIES)
    assert found["total"] == len(found["anomalies"]) == 4
    assert {(one["service"], one["metric"]) for one in found["anomalies"]} == {
        (service, metric) for service in ("chat", "mail") for metric in ("latency.avg", "latency.p95")
    }
    (chat,) = (await get(client, ANOMALIES, services="chat", metric="latency"))["anomalies"]
    assert chat["id"].startswith("ano_")
    assert chat["endedAt"] >= slow + 5 * MINUTE_MS
    assert {"service", "window", "value", "low", "high", "detector", "confidence"} <= set(chat)
    opened = await get(client, ANOMALIES, open=True)
    assert {one["service"] for one in opened["anomalies"]} == {"mail"}
    assert all("endedAt" not in one for one in opened["anomalies"])
    closed = await get(client, ANOMALIES, open=False, minSeverity="high")
    assert {one["service"] for one in closed["anomalies"]} == {"chat"}
    page = await get(client, ANOMALIES, limit=1, offset=3)
    assert (page["total"], page["anomalies"]) == (4, found["anomalies"][3:])
    assert (await get(client, ANOMALIES, end=slow))["total"] == 0
    assert (await get(client, ANOMALIES, start=slow + 20 * MINUTE_MS))["total"] == 2
    assert await get(client, ANOMALIES, services="nobody") == {"total": 0, "anomalies": []}


@pytest.mark.usefixtures("slow")
async def test_an_anomaly_is_told_by_an_event(client: httpx.AsyncClient) -> None:
    events = (await get(client, "/api/v1/events", type="anomaly.detected", service="chat"))["events"]
    assert {event["data"]["metric"] for event in events} == {"latency.avg", "latency.p95"}
    for event in events:
        data = event["data"]
        assert set(data) == {
            *("metric", "value", "expectedRange", "severity", "confidence", "detectorType"),
        }
        assert 80 < data["expectedRange"]["min"] < data["expectedRange"]["max"] < data["value"]


async def test_baselines_of_what_was_reported(
    client: httpx.AsyncClient, database: Database, now: int
) -> None:
    assert await get(client, BASELINES) == {"baselines": []}
    for service in ("chat", "mail"):
        await minutes.had(database, now - 3 * HOUR_MS, now - 2 * HOUR_MS, service=service, per_minute=1)
    await refresh(database, now)
    found = (await get(client, BASELINES, services="chat"))["baselines"]
    assert [baseline["name"] for baseline in found] == ["chat/initial", "chat/peak", "chat/rolling"]
    for baseline in found:
        assert set(baseline) == {"name", "description", "createdAt", "metrics", "sampleSize"}
        assert baseline["metrics"]["cost.avg"] == pytest.approx(0.002)
        assert "quality.avg" not in baseline["metrics"]
    assert found[0]["sampleSize"] == 60
    assert len((await get(client, BASELINES))["baselines"]) == 6
    assert await get(client, BASELINES, services="nobody") == {"baselines": []}


async def test_a_golden_baseline_is_set_and_removed(
    client: httpx.AsyncClient, database: Database, now: int
) -> None:
    await minutes.had(database, now - 5 * HOUR_MS, now - HOUR_MS)
    body = {"service": "chat", "start": now - 5 * HOUR_MS, "end": now - HOUR_MS}
    made = done(await client.post(f"{BASELINES}/golden", json=body))
    assert (made["name"], made["sampleSize"]) == ("chat/golden", 4 * 60 * 30)
    await refresh(database, now)
    assert made in (await get(client, BASELINES, services="chat"))["baselines"]
    (entry, *_) = (await get(client, "/api/v1/audit"))["entries"]
    assert (entry["action"], entry["target"]) == ("baseline.set", "chat")
    assert done(await client.delete(f"{BASELINES}/golden/chat")) == made
    refused(await client.delete(f"{BASELINES}/golden/chat"), 404, "NOT_FOUND")
    nobody = await client.post(f"{BASELINES}/golden", json={"service": "nobody"})
    refused(nobody, 404, "NOT_FOUND")
    for wrong in ({"service": "chat", "start": 5}, body | {"end": body["start"]}, body | {"kind": "golden"}):
        refused(await client.post(f"{BASELINES}/golden", json=wrong), 400, "INVALID_REQUEST")
    refused(await client.post(f"{BASELINES}/golden", json={"service": "mail"}), 400, "INVALID_REQUEST")


async def test_trends_and_changes_of_three_weeks(
    client: httpx.AsyncClient, database: Database, now: int
) -> None:
    """Thirty calls of each hour, dearer by the day, and slower in the last hours."""
    days = 16
    for day in range(days):
        since = now - (days - day) * DAY_MS
        cost, latency = 0.002 * (1 + 0.05 * day), 98.0 + day % 5
        await minutes.had(database, since, since + DAY_MS, per_minute=0.5, cost_usd=cost, latency_ms=latency)
    await minutes.had(database, now - 5 * HOUR_MS, now, per_minute=0.5, latency_ms=300.0, cost_usd=None)
    async with database.transaction() as session:
        await findings.refresh(session, ["chat", "mail"], now)
    found = await get(client, TRENDS, services="chat", metric="cost", window="7d")
    (week,) = found["trends"]
    assert (week["direction"], week["deseasonalised"], week["significant"]) == ("up", True, True)
    assert week["slopePerHour"] == pytest.approx(0.002 * 0.05 / 24, rel=0.1)
    assert week["forecast"][-1]["mean"] > week["forecast"][0]["mean"] > 0.0034
    assert week["computedAt"] == now
    assert await get(client, TRENDS, window="1m") == {"total": 0, "trends": []}
    async with database.transaction() as session:
        kept = await analysis.latest_trends(session, ["chat", "mail", "nobody"])
    assert set(kept) == {"chat"}
    assert kept["chat"]["cost.avg", "7d"].slope_per_hour == week["slopePerHour"]
    changes = {one["metric"]: one for one in (await get(client, CHANGES, services="chat,mail"))["changes"]}
    assert {one["service"] for one in changes.values()} == {"chat"}
    latency = changes["latency.avg"]
    assert (latency["method"], latency["significant"], latency["n"]) == ("same-hour", True, 14)
    assert latency["before"] == pytest.approx(90, rel=0.02)
    assert latency["now"] > 150
    assert not changes["tokens.output"]["significant"]
    assert await get(client, CHANGES, metric="quality") == {"total": 0, "changes": []}


async def test_what_cannot_be_asked(client: httpx.AsyncClient) -> None:
    for path, wrong in (
        (ANOMALIES, {"metric": "speed"}),
        (ANOMALIES, {"minSeverity": "grave"}),
        (ANOMALIES, {"open": "perhaps"}),
        (TRENDS, {"window": "2h"}),
        (CHANGES, {"services": "a b"}),
        (CHANGES, {"method": "golden"}),
    ):
        refused(await client.get(path, params=wrong), 400, "INVALID_REQUEST")
