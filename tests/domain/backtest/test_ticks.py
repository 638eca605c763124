"""When a replayed policy is asked."""

import pytest

from domain.analytics import DAY_MS, HOUR_MS, MINUTE_MS
from domain.backtest.ticks import MAX_DECISIONS, cell_length, ticks
from domain.errors import InvalidRequest

START = 1_760_000_000_000 // DAY_MS * DAY_MS


def test_decisions_are_made_when_a_schedule_is_due() -> None:
    found = ticks(START + 1, START + 3 * HOUR_MS, HOUR_MS)
    assert list(found) == [START + HOUR_MS, START + 2 * HOUR_MS, START + 3 * HOUR_MS]
    assert list(ticks(START, START + 90_000, 45_000)) == [START, START + 45_000, START + 90_000]
    assert len(ticks(START, START + 90 * DAY_MS, HOUR_MS)) == 90 * 24 + 1 <= MAX_DECISIONS


@pytest.mark.parametrize(
    ("since", "until", "every", "said"),
    [
        (START, START + DAY_MS, 10_000, r"8,641 decisions, .* more than 2,500: .*\(60 s would do\)"),
        (START, START + 91 * DAY_MS, HOUR_MS, "90 days at most"),
        (START + 1, START, HOUR_MS, "since is after until"),
        (START + 1, START + 2, HOUR_MS, "no multiple of 3600 s"),
    ],
)
def test_what_cannot_be_replayed_is_refused(since: int, until: int, every: int, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        ticks(since, until, every)


def test_the_interval_that_a_refusal_names_would_do() -> None:
    for span, every in ((DAY_MS, 10_000), (7 * DAY_MS, 60_000), (90 * DAY_MS, 1_000), (89 * DAY_MS + 17, 77)):
        with pytest.raises(InvalidRequest) as refused:
            ticks(START, START + span, every)
        seconds = int(refused.value.message.rpartition("(")[2].split()[0].replace(",", ""))
        assert len(ticks(START, START + span, seconds * 1000)) <= MAX_DECISIONS


@pytest.mark.parametrize(
    ("every", "windows", "length"),
    [
        (HOUR_MS, [DAY_MS], HOUR_MS),
        (DAY_MS, [DAY_MS], DAY_MS),
        (DAY_MS, [DAY_MS, HOUR_MS], HOUR_MS),
        (30 * MINUTE_MS, [DAY_MS], 15 * MINUTE_MS),
        (7 * MINUTE_MS, [DAY_MS], MINUTE_MS),
        (10_000, [DAY_MS], MINUTE_MS),
        (3_601_000, [DAY_MS], 5 * MINUTE_MS),
        (HOUR_MS, [DAY_MS, 1], 5 * MINUTE_MS),
    ],
)
def test_cells_are_as_long_as_windows_allow(every: int, windows: list[int], length: int) -> None:
    assert cell_length(every, windows) == length
