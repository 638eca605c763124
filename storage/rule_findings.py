"""What the analysis recorded of trends and anomalies, as rules and triggers read it."""

from collections.abc import Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from domain.rules.signals import Findings

PastFindings = Callable[[int], Findings]
"""What was known at a moment (ms)."""


async def present(session: AsyncSession, services: Sequence[str]) -> dict[str, Findings]:
    """By service, what is known now; a service without a record is left out."""
    return {}


async def past(session: AsyncSession, service: str, start: int, end: int) -> PastFindings:
    """What was known of a service at each moment in [start, end) (ms)."""
    return lambda at: Findings()
