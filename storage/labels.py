"""The labels that reports have had today, so that their limits outlast a process."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.label_limits import Labels

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


async def used_today(session: AsyncSession) -> list[Labels]:
    """Every combination of labels that is rolled up of today (UTC)."""
    return [Labels(*row) for row in await session.execute(_USED)]
