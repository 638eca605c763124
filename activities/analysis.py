"""What the analysis' schedules have done, for all services at once."""

import time
from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity

from domain.analysis.watched import WATCHED_WINDOWS
from storage import baseline_refresh, detection, findings, progress, services
from storage.database import Database
from storage.tables import db_clock
from workflows import messages as m

DETECT_SECONDS = 40.0
"""A backlog is worked off for so long at a time; the schedule brings the next."""


class AnalysisActivities:
    """Each may be repeated, and be under way in two workers: what one has done the other finds done."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @activity.defn(name="detect-anomalies")
    async def detect(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Read the windows that are complete, of each length in turn."""
        until = time.monotonic() + DETECT_SECONDS
        notes: dict[str, str] = {}
        pending = list(WATCHED_WINDOWS)
        while pending and time.monotonic() < until:
            for window in tuple(pending):
                async with self._database.transaction() as session:
                    read = await detection.advance(session, window)
                if read is not None:
                    notes[window] = (
                        f"{window}: {read.steps} values, {read.opened} anomalies, {read.announced} told"
                        + (f", {read.behind} windows behind" if read.behind else "")
                    )
                if read is None or not read.behind:
                    pending.remove(window)
        return m.HousekeepingResult(notes=list(notes.values()))

    @activity.defn(name="refresh-baselines")
    async def refresh_baselines(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Measure the baselines that are due."""
        measured = await self._each("baselines", baseline_refresh.AT_ONCE, baseline_refresh.refresh)
        return m.HousekeepingResult(notes=[f"{measured} baselines measured"])

    @activity.defn(name="compare-with-past")
    async def compare(self, arg: m.HousekeepingInput) -> m.HousekeepingResult:
        """Test every service against its baselines, and find its trends."""
        found = await self._each("findings", findings.AT_ONCE, findings.refresh)
        return m.HousekeepingResult(notes=[f"{found} services compared"])

    async def _each(
        self, work: str, at_once: int, do: Callable[[AsyncSession, Sequence[str], int], Awaitable[int]]
    ) -> int:
        """Go through the services by name, some in each transaction; stops where somebody else is at it."""
        count, last = 0, ""
        while True:
            async with self._database.transaction() as session:
                names = await services.names_after(session, last, at_once)
                if not names or not await progress.try_lock(session, work):
                    return count
                now = (await session.execute(select(db_clock()))).scalar_one()
                count += await do(session, names, now)
            last = names[-1]
