"""What is on record of a service over a long time, read once, for questions about any moment of it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.analytics import DAY_MS, HOUR_MS
from domain.backtest.trial import Trial
from domain.config import LLMConfig
from domain.deployment import DeploymentStatus, Rollback
from domain.gate.verdict import Judgement
from domain.reports import EARLIEST_MS
from domain.scope import GLOBAL
from domain.totals import Totals
from domain.windows import Windows
from storage import analytics, configs, observations, rollup_reader
from storage.configs import ActiveConfig
from storage.database import deadline
from storage.observations import HISTORY_SKETCHES, Coverage, Group
from storage.rollup_reader import Question, Span
from storage.served import Served
from storage.tables import Rollout, RolloutCheck

_AT_ONCE_MS = 7 * DAY_MS
"""How much time one statement reads at most."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Of which moments a record is to tell, and how finely; all ms.

    `moments` ascend. Before each it knows the last `history` of the reports in cells of `history_cell`, and
    the traffic of the last `traffic` in cells of `traffic_cell`; after the last moment it knows the reports
    up to `end` by the hour.
    """

    moments: Sequence[int]
    history: int
    history_cell: int
    traffic: int
    traffic_cell: int
    end: int


@dataclass(frozen=True, slots=True)
class _Reports:
    history: Windows
    traffic: Windows


@dataclass(frozen=True, slots=True)
class Record:
    """A service's reports, which count by their own time, whenever they arrived; what it served, and its
    rollouts that served anything, the earliest first. `versions` are the configurations of all versions that
    the reports name.
    """

    served: Served
    versions: Mapping[str, LLMConfig]
    trials: Sequence[Trial]
    extent: Extent
    _reports: Mapping[tuple[str, ...], _Reports]

    def active(self, moment: int) -> ActiveConfig | None:
        """What the service served outside a canary at a moment."""
        return self.served.at(moment)

    def history(self, since: int, until: int, *, at: int) -> list[Group]:
        """What was reported of each version and model in [since, until), to whole cells, the latest first.

        Counted is what counted for the service at the moment `at`, when some endpoints may have had a
        configuration of their own.
        """
        length = self.extent.history_cell
        totals = self._of(at).history.over(_floor(since, length), _floor(until, length))
        return observations.groups_of(totals)

    def first_report(self, versions: Collection[str], since: int, *, at: int) -> int | None:
        """When the first cell from `since` on begins that has a request of one of the versions."""
        begins = self._of(at).history.begins(since)
        return min((first for group, first in begins.items() if group[0] in versions), default=None)

    def traffic(self, moment: int, windows: Iterable[int]) -> list[tuple[int, int, float | None]]:
        """For each window up to a moment: its length, the requests in it, and what they cost, if known."""
        length, found = self.extent.traffic_cell, []
        for window in windows:
            since, until = _floor(moment - window, length), _floor(moment, length)
            totals = self._of(moment).traffic.over(since, until).get((), Totals())
            found.append((window, totals.n, totals.cost.total if totals.cost.n else None))
        return found

    def _of(self, moment: int) -> _Reports:
        return self._reports[self.served.endpoints(moment)]


async def first_hour(session: AsyncSession, service: str, since: int, until: int) -> int | None:
    """The first hour in [since, until) in which a service has a request; None where it has none.

    Raises:
        TimedOut: it takes too long.
    """

    async def first(span: Span) -> int | None:
        question = Question(span, where="r.service = :service", parameters={"service": service}, amounts=())
        async with deadline(session, analytics.QUERY_SECONDS):
            cells = [cell.at async for cell in rollup_reader.read(session, question) if cell.totals.n]
        return min(cells, default=None)

    day = await first(Span(_floor(since, DAY_MS), until, DAY_MS))
    return None if day is None else await first(Span(day, min(day + DAY_MS, until), HOUR_MS))


async def read(session: AsyncSession, served: Served, extent: Extent) -> Record:
    """The record of a service.

    Raises:
        TimedOut: a part of it takes too long.
    """
    reports = {
        endpoints: await _reports(session, Coverage([served.service], None, [], list(endpoints)), extent)
        for endpoints in sorted({served.endpoints(moment) for moment in extent.moments})
    }
    named = {version for of in reports.values() for (version, *_) in of.history.groups if version}
    return Record(
        served=served,
        versions=await configs.named(session, named),
        trials=await _trials(session, served),
        extent=extent,
        _reports=reports,
    )


async def _reports(session: AsyncSession, covered: Coverage, extent: Extent) -> _Reports:
    first, last = extent.moments[0], extent.moments[-1]
    history, traffic = Windows(sketches=HISTORY_SKETCHES), Windows()
    split = _floor(last, extent.history_cell)
    for since, until, length in (
        (_floor(first - extent.history, extent.history_cell), split, extent.history_cell),
        (split, extent.end, HOUR_MS),
    ):
        for span in _spans(since, until, length):
            await _fill(session, history, observations.history_question(covered, span))
    since = _floor(max(first - extent.traffic, EARLIEST_MS), extent.traffic_cell)
    for span in _spans(since, _floor(last, extent.traffic_cell), extent.traffic_cell):
        await _fill(session, traffic, observations.traffic_question(covered, span))
    return _Reports(history, traffic)


def _spans(since: int, until: int, length: int) -> Iterable[Span]:
    """[since, until) in pieces that one statement can read."""
    for start in range(since, until, _AT_ONCE_MS):
        yield Span(start, min(start + _AT_ONCE_MS, until), length)


async def _fill(session: AsyncSession, windows: Windows, question: Question) -> None:
    async with deadline(session, analytics.QUERY_SECONDS):
        async for cell in rollup_reader.read(session, question):
            windows.add(cell.at, cell.group, cell.totals)


async def _trials(session: AsyncSession, served: Served) -> list[Trial]:
    """The rollouts that served anything, of the service or of the global configuration while it had that."""
    query = (
        select(Rollout, RolloutCheck.result)
        .outerjoin(
            RolloutCheck,
            (RolloutCheck.deployment_id == Rollout.id) & (RolloutCheck.number == Rollout.check_number),
        )
        .where(Rollout.scope.in_((served.service, GLOBAL)), Rollout.step >= 0)
        .order_by(Rollout.started_at)
    )
    return [
        _trial(row, look, served.configs)
        for row, look in await session.execute(query)
        if row.scope == served.service or _inherited(served, row.started_at or row.created_at)
    ]


def _inherited(served: Served, moment: int) -> bool:
    active = served.at(moment)
    return active is not None and active.inherited


def _trial(row: Rollout, look: dict[str, Any] | None, versions: Mapping[str, LLMConfig]) -> Trial:
    taken_back = Rollback.model_validate(row.rollback) if row.rollback else None
    return Trial(
        deployment_id=row.id,
        status=cast("DeploymentStatus", row.status),
        before=versions[row.from_version],
        after=versions[row.to_version],
        started_at=row.started_at or row.created_at,
        ended_at=row.ended_at,
        readings=Judgement.model_validate(look).guardrails if look else [],
        reason=taken_back.reason if taken_back else row.error,
        harmed=taken_back is not None and taken_back.automatic and bool(taken_back.triggers),
    )


def _floor(moment: int, length: int) -> int:
    return moment // length * length
