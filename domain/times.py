"""Times in epoch milliseconds, as datetimes and in words."""

from datetime import UTC, datetime


def moment(at: int) -> datetime:
    """An aware datetime of epoch milliseconds."""
    return datetime.fromtimestamp(at / 1000, UTC)


def told(at: int) -> str:
    """`2026-01-31 12:00`, in UTC."""
    return f"{moment(at):%Y-%m-%d %H:%M}"
