"""The labels that reports have had today, so that their limits outlast a process."""

from collections.abc import AsyncIterator

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.label_limits import Labels

ROWS_AT_ONCE = 1_000

# By hours as far as they are made, then by minutes; what came in the last seconds is not there yet.
_USED = text("""
    SELECT DISTINCT service, endpoint, provider, model, config_version,
           CASE WHEN error NOT LIKE 'HTTP %' THEN error END
    FROM (
        SELECT * FROM rollup_hours
        WHERE arrived >= date_bin('1 day', clock_timestamp(), to_timestamp(0))
        UNION ALL
        SELECT * FROM rollup_minutes
        WHERE arrived >= date_bin('1 day', clock_timestamp(), to_timestamp(0))
          AND arrived >= (SELECT hours_until FROM rollup_progress)
    ) today
""")


async def used_today(session: AsyncSession) -> AsyncIterator[list[Labels]]:
    """Every combination of labels that is rolled up of today (UTC), some at a time."""
    result = await session.stream(_USED)
    async for rows in result.partitions(ROWS_AT_ONCE):
        yield [Labels(*row) for row in rows]
