"""What the analysis recorded, as rules read it."""

from typing import Any

from domain.analysis.detector import DetectorState
from domain.rules.signals import Findings, TrendReading
from storage import rule_findings
from storage.database import Database
from storage.tables import AnomalyEpisode, SeriesState, TrendRecord

MINUTE_MS = 60_000
SINCE = 1_790_000_000_000 // MINUTE_MS * MINUTE_MS


def episode(name: str, severity: str, start: int, end: int | None, **given: Any) -> AnomalyEpisode:
    fields: dict[str, Any] = {
        "id": name,
        "service": "chat",
        "metric": "latency.p95",
        "window": "5m",
        "detector": "ewma_fast",
        "severity": severity,
        "confidence": 0.5,
        "direction": "up",
        "harmful": True,
        "strength": 2.0,
        "value": 900.0,
        "low": 100.0,
        "high": 200.0,
        "started_at": SINCE + start * MINUTE_MS,
        "last_at": SINCE + start * MINUTE_MS,
        "ended_at": None if end is None else SINCE + end * MINUTE_MS,
        "windows": 1,
    }
    return AnomalyEpisode(**(fields | given))


def series(service: str) -> SeriesState:
    state = DetectorState().model_dump_json().encode()
    return SeriesState(
        service=service, window="5m", metric="latency.p95", state=state, until=SINCE, seen_at=SINCE
    )


def trend(service: str, direction: str) -> TrendRecord:
    found = {
        "metric": "cost.avg",
        "direction": direction,
        "slopePerHour": 0.0,
        "change": 0.25,
        "p": 0.01,
        "significant": direction != "none",
        "n": 96,
        "effectiveN": 60.0,
        "forecast": [],
    }
    told = {"window": "24h", "deseasonalised": False, "trend": found}
    return TrendRecord(service=service, metric="cost.avg", window="24h", trend=told, computed_at=SINCE)


async def test_open_anomalies_and_latest_trends_are_what_is_known(database: Database) -> None:
    async with database.transaction() as session:
        session.add_all([series("chat"), series("calm"), trend("chat", "up"), trend("only-trends", "none")])
        session.add(episode("ano_1", "medium", 0, None))
        session.add(episode("ano_2", "critical", 0, None, window="1h"))
        session.add(episode("ano_3", "high", 0, 10, metric="cost.avg"))
    async with database.transaction() as session:
        found = await rule_findings.present(session, ["chat", "calm", "only-trends", "never-heard-of"])
    assert found == {
        "chat": Findings(
            trends={("cost.avg", "24h"): TrendReading("up", 0.25, True)},
            anomalies={"latency.p95": "critical"},
        ),
        "calm": Findings(anomalies={}),
        "only-trends": Findings(trends={("cost.avg", "24h"): TrendReading("flat", 0.25, False)}),
    }


async def test_a_weak_anomaly_counts_where_a_related_metric_bears_it_out(database: Database) -> None:
    weak: dict[str, Any] = {"strength": 1.25}
    async with database.transaction() as session:
        session.add_all([series("chat"), series("mail")])
        session.add(episode("ano_1", "low", 0, None, **weak))
        session.add(episode("ano_2", "low", 0, None, metric="tokens.output", **weak))
        session.add(episode("ano_3", "low", 0, None, metric="quality.avg", direction="down", **weak))
        session.add(episode("ano_4", "low", 0, None, service="mail", **weak))
    async with database.transaction() as session:
        found = await rule_findings.present(session, ["chat", "mail"])
    assert dict(found["chat"].anomalies or {}) == {
        "latency.p95": "low",
        "tokens.output": "low",
        "quality.avg": "low",
    }
    assert found["mail"].anomalies == {}


async def test_the_past_knows_the_anomalies_of_its_time(database: Database) -> None:
    async with database.transaction() as session:
        session.add(series("chat"))
        session.add(episode("ano_1", "medium", 10, 20))
        session.add(episode("ano_2", "high", 15, None, window="1h"))
    async with database.transaction() as session:
        known = await rule_findings.past(session, "chat", SINCE, SINCE + 60 * MINUTE_MS)
        unwatched = await rule_findings.past(session, "other", SINCE, SINCE + 60 * MINUTE_MS)
    told = [known(SINCE + minute * MINUTE_MS).anomalies for minute in (9, 10, 15, 20, 59)]
    medium, high = {"latency.p95": "medium"}, {"latency.p95": "high"}
    assert told == [{}, medium, high, high, high]
    assert unwatched(SINCE) == Findings()
