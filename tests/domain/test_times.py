"""Times as people read them."""

from datetime import UTC, datetime

from domain.times import moment, told


def test_milliseconds_are_of_the_epoch_in_utc() -> None:
    assert moment(1_769_860_800_500) == datetime(2026, 1, 31, 12, 0, 0, 500_000, tzinfo=UTC)
    assert told(1_769_860_859_999) == "2026-01-31 12:00"
