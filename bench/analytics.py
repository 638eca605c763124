"""What a question about metrics costs, and an observation: `python -m bench.analytics`.

For each size a database of one server gets so many reports of 20 services and 8 models, ten million a day:
the more there are, the longer the history. They are rolled up as the worker does. Then all databases are
asked in turn: the p95 of 24 h from the rollups, and the same by `percentile_cont` on the reports, with the
same memory; questions by group, by interval and folded minute by minute; the observation of a service as a
run makes it; half a minute of a rollout's arms as the gate reads them. Last, further reports are committed
and rolled up. All are medians of the rounds. What is asked of one day or hour may not become slower with the
days before it.

Prints one JSON line, and exits with 1 where a gate is missed.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import make_url

from activities import problems
from bench import history
from bench.analysis import CONFIG, SERVICE, configured
from bench.gates import Gate, concluded
from bench.load import reports
from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS, MetricsQuery
from domain.idempotency import Answer
from domain.policy import ServicePolicy
from domain.series import answer
from infra.embedded import EmbeddedStack
from storage import analytics, observations, rollup_reader
from storage.database import Database
from storage.intake import Intake
from storage.migrations import upgrade
from storage.observations import Arm
from storage.rollups import MARGIN, Roller

NOWHERE = "127.0.0.1:9"
PER_DAY = 10_000_000
BATCHES, BATCH = 100, 1_000
"""Reports that are committed on top of the history."""
SAME = 1.25
"""How much longer the same may take after a longer history and still count as the same."""
QUICK, REPEATS = frozenset({"p95OfAnHour", "observe", "gate"}), 5
"""What is asked several times a round."""
LOOK_MS = 30_000

_RAW = """
    SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY latency_ms) FROM metrics
    WHERE status_code < 400 AND error_type IS NULL AND ts >= $1::timestamptz - interval '1 day' AND ts < $1
"""


@dataclass(frozen=True, slots=True)
class History:
    """A database with so many reports, which end at `until`; rolling them up took so many seconds."""

    reports: int
    database: Database
    policy: ServicePolicy
    until: datetime
    rolling: float

    @property
    def now(self) -> int:
        """The end of the reports (ms)."""
        return round(self.until.timestamp() * 1000)

    async def answered(self, start: int, end: int, *metrics: str, **given: Any) -> float:
        """The first value of the answer to a question about metrics."""
        window = {"metrics": list(metrics), "timeRange": {"start": start, "end": end}}
        query = MetricsQuery.model_validate(window | given)
        async with self.database.transaction() as session:
            readings = await analytics.read(session, query)
        return answer(query, readings).metrics[0].data_points[0].value

    async def of_a_day(self, **given: Any) -> float:
        """The p95 of the last day."""
        return await self.answered(self.now - DAY_MS, self.now, "latency.p95", **given)

    async def in_intervals(self, length: int, interval: int) -> float:
        """A chart of so long a time in intervals."""
        minute = self.now // MINUTE_MS * MINUTE_MS
        return await self.answered(minute - length, minute, "latency.p95", "cost.avg", interval=interval)

    async def percentile_cont(self) -> float:
        """The p95 of the last day by the reports, with the settings that the rollups are read with."""
        connection = await self.database.connect()
        async with connection.transaction():
            await connection.execute(rollup_reader.SETTINGS.text)
            found = float(await connection.fetchval(_RAW, self.until))
        await connection.close()
        return found

    async def observe(self) -> None:
        """Observe a service as a run does."""
        if await problems.observe(self.database, SERVICE, self.policy) is None:
            raise RuntimeError(f"{SERVICE} serves nothing")

    async def look(self) -> None:
        """Read what a look of the gate reads."""
        arms = (Arm(f"{SERVICE}@{number}", CONFIG) for number in (1, 2))
        async with self.database.transaction() as session:
            covered = await observations.coverage(session, SERVICE)
            found = await observations.arms(session, covered, *arms, since=self.now - LOOK_MS, until=self.now)
        if not found:
            raise RuntimeError(f"{SERVICE} has no reports")

    async def taken(self) -> float:
        """Seconds until the intake has committed 100 batches of 1,000, with as many callers as batches."""
        intake = Intake(self.database)
        await intake.start()
        first, *given = [reports(BATCH, seed) for seed in range(1 + BATCHES)]
        await intake.metrics(first, Answer(200, {}))
        began = time.perf_counter()
        await asyncio.gather(*(intake.metrics(batch, Answer(200, {})) for batch in given))
        seconds = time.perf_counter() - began
        await intake.close()
        return seconds

    async def rolled(self) -> float:
        """Seconds of rolling up what `taken` has committed."""
        connection = await self.database.connect()
        began = time.perf_counter()
        count = await Roller(connection).run()
        seconds = time.perf_counter() - began
        await connection.close()
        if count != (1 + BATCHES) * BATCH:
            raise RuntimeError(f"{count} reports were rolled up of {(1 + BATCHES) * BATCH}")
        return seconds


QUESTIONS: dict[str, Callable[[History], Awaitable[Any]]] = {
    "p95OfADay": History.of_a_day,
    "percentileCont": History.percentile_cont,
    "p95OfADayByModel": lambda of: of.of_a_day(groupBy=["model"]),
    "p95OfADayByServiceAndModel": lambda of: of.of_a_day(groupBy=["service", "model"]),
    "foldedDayByServiceAndModel": lambda of: of.of_a_day(groupBy=["service", "model"], aggregation="avg"),
    "p95OfAnHour": lambda of: of.answered(of.now - HOUR_MS, of.now, "latency.p95"),
    "dayInFiveMinutes": lambda of: of.in_intervals(DAY_MS, 300_000),
    "quarterInDays": lambda of: of.in_intervals(90 * DAY_MS, DAY_MS),
    "observe": History.observe,
    "gate": History.look,
}


@asynccontextmanager
async def histories(sizes: list[int]) -> AsyncIterator[list[History]]:
    """A database of each size, all on one server and up to one moment."""
    async with AsyncExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        parts = EmbeddedStack(Path(folder), temporal_address=NOWHERE, temporal_ui=False, usual_ports=False)
        stack = await opened.enter_async_context(parts)
        first = await asyncpg.connect(stack.database_url)
        until = await first.fetchval("SELECT clock_timestamp() - interval '3 seconds'")
        found = []
        for size in sizes:
            await first.execute(f"CREATE DATABASE bench_{size}")
            url = make_url(stack.database_url).set(database=f"bench_{size}")
            address = url.render_as_string(hide_password=False)
            await asyncio.to_thread(upgrade, address)
            database = Database(address)
            opened.push_async_callback(database.close)
            rolling = await history.report(database, size, hours=24 * size / PER_DAY, until=until)
            found.append(History(size, database, await configured(database), until, rolling))
        await first.close()
        yield found


async def asked(given: list[History], rounds: int) -> list[dict[str, Any]]:
    """Milliseconds of each question (medians), and how the p95 of a day compares, for each history."""
    seconds: list[dict[str, list[float]]] = [defaultdict(list) for _ in given]
    values: list[dict[str, Any]] = [{} for _ in given]
    for _ in range(rounds):
        for name, question in QUESTIONS.items():
            for _ in range(REPEATS if name in QUICK else 1):
                for number, of in enumerate(given):
                    began = time.perf_counter()
                    values[number][name] = await question(of)
                    seconds[number][name].append(time.perf_counter() - began)
    return [
        {
            **{f"{name}Ms": round(statistics.median(of[name]) * 1000, 1) for name in QUESTIONS},
            "ratio": round(statistics.median(of["p95OfADay"]) / statistics.median(of["percentileCont"]), 4),
            "relativeError": round(abs(value["p95OfADay"] / value["percentileCont"] - 1), 4),
        }
        for of, value in zip(seconds, values, strict=True)
    ]


async def added(given: list[History], rounds: int) -> list[dict[str, Any]]:
    """Microseconds of committing a further report, and of rolling it up, for each history."""
    taking: list[list[float]] = [[] for _ in given]
    rolling: list[list[float]] = [[] for _ in given]
    for _ in range(rounds):
        for number, of in enumerate(given):
            taking[number].append(await of.taken() / BATCHES)
        await asyncio.sleep(2 * MARGIN.total_seconds())
        for number, of in enumerate(given):
            rolling[number].append(await of.rolled() / (1 + BATCHES))
    return [
        {
            "commitMicrosPerReport": round(statistics.median(took) / BATCH * 1e6, 2),
            "rollUpMicrosPerReport": round(statistics.median(rolled) / BATCH * 1e6, 2),
        }
        for took, rolled in zip(taking, rolling, strict=True)
    ]


async def run(sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """The figures of each size."""
    async with histories(sizes) as given:
        answers, additions = await asked(given, rounds), await added(given, rounds)
    return [
        {
            "reports": of.reports,
            "rollUpAllMicrosPerReport": round(of.rolling / of.reports * 1e6, 2),
            **more,
            **figures,
        }
        for of, figures, more in zip(given, answers, additions, strict=True)
    ]


def judged(found: list[dict[str, Any]]) -> list[Gate]:
    """The gates.

    The least history that has a whole day is what a longer one is held against; ratios of less are overhead.
    """
    days = [figures for figures in found if figures["reports"] >= PER_DAY] or found[-1:]

    def worst(name: str, of: list[dict[str, Any]]) -> float:
        return float(max(figures[name] for figures in of))

    def grown(name: str, first: dict[str, Any]) -> float:
        return round(float(found[-1][name] / first[name]), 2)

    within = [
        Gate(
            "p95 of a day / percentile_cont on the reports", worst("ratio", days), 0.05, 0.005, ceiling=True
        ),
        Gate("relative error of the p95", worst("relativeError", found), 0.01, ceiling=True),
        Gate("observing a service over a day, ms", worst("observeMs", found), 200.0, ceiling=True),
        Gate(
            "a day by service and model folded by the minute, ms",
            worst("foldedDayByServiceAndModelMs", found),
            analytics.QUERY_SECONDS * 1000,
            ceiling=True,
        ),
        Gate(
            "rolling up all, per report, most / fewest reports",
            grown("rollUpAllMicrosPerReport", found[0]),
            1.5,
            ceiling=True,
        ),
    ]
    longer = {
        "committing a report": ("commitMicrosPerReport", found[0]),
        "rolling up a report": ("rollUpMicrosPerReport", found[0]),
        "p95 of a day": ("p95OfADayMs", days[0]),
        "p95 of an hour": ("p95OfAnHourMs", days[0]),
        "observing": ("observeMs", days[0]),
        "a look of the gate": ("gateMs", days[0]),
    }
    return within + [
        Gate(
            f"{what}, longest history / {'a day' if first is days[0] else 'the shortest'}",
            grown(name, first),
            SAME,
            ceiling=True,
        )
        for what, (name, first) in longer.items()
    ]


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, nargs="+", default=[1_000_000, 10_000_000, 50_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found = asyncio.run(run(sorted(given.reports), given.rounds))
    return concluded("analytics", judged(found), sizes=found)


if __name__ == "__main__":
    sys.exit(main())
