"""Savings: the ledger's entries on cost, with how many requests each new version has answered."""

from collections import Counter
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.ledger.entry import LedgerEntry
from domain.ledger.savings import DeploymentSavings, Versions, deployment_savings
from domain.reports import MAX_AHEAD_MS
from domain.scope import GLOBAL
from storage import analytics, ledger, rollouts, rollup_reader
from storage.database import deadline
from storage.ledger import Selection
from storage.rollup_reader import Question, Span
from storage.tables import Rollout


async def read(session: AsyncSession, selection: Selection) -> list[DeploymentSavings]:
    """Every deployment of which cost was predicted or measured, the newest first.

    Requests count that named the version they were answered by, as far as reports are still kept.

    Raises:
        TimedOut: it takes too long.
    """
    async with deadline(session, analytics.QUERY_SECONDS):
        entries = await ledger.entries(session, selection, metric="cost.avg")
        rows = await session.execute(
            select(Rollout.id, Rollout.from_version, Rollout.to_version, Rollout.status).where(
                Rollout.id.in_([entry.deployment_id for entry in entries])
            )
        )
        versions = {
            row.id: Versions(from_version=row.from_version, to_version=row.to_version, status=row.status)
            for row in rows
        }
        answered = await _answered(session, entries, versions)
    return [
        deployment_savings(entry, versions[entry.deployment_id], answered[entry.deployment_id])
        for entry in entries
    ]


async def _answered(
    session: AsyncSession, entries: Sequence[LedgerEntry], versions: dict[str, Versions]
) -> Counter[str]:
    """How many requests the new version of each deployment has answered since it was opened."""
    found: Counter[str] = Counter()
    if not entries:
        return found
    scopes = {versions[entry.deployment_id].to_version: entry for entry in entries}
    now = await rollouts.clock(session)
    question = Question(
        Span(min(entry.opened_at for entry in entries), now + MAX_AHEAD_MS),
        by=("config_version", "service"),
        where="r.config_version = ANY(:versions)",
        parameters={"versions": sorted(scopes)},
        amounts=(),
    )
    async for cell in rollup_reader.read(session, question):
        version, service = cell.group
        entry = scopes[version or ""]
        # Anybody may name any version; a service's own is served to that service alone.
        if entry.service in (service, GLOBAL):
            found[entry.deployment_id] += cell.totals.n
    return found
