"""Whatever numbers come, an answer that holds together, or none; warnings are errors here."""

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.analysis.changes import ALPHA, Change, golden, judged, pre_change, rolling, same_hour
from domain.analysis.points import Series
from domain.analysis.seasonal import DailyProfile, deseasonalised
from domain.analysis.trends import trend
from domain.analytics import DAY_MS

Points = list[tuple[int, float]]

FLOATS = st.floats() | st.sampled_from([0.0, -0.0, 0.3, 1e12, -1e12, 5e-324, 1e-100, 1e-99, 0.1 + 0.2])
SHORT = st.lists(st.tuples(st.integers(0, 10**7), FLOATS), max_size=40)
REGULAR = st.lists(FLOATS, max_size=130).map(lambda values: list(enumerate(values)))
POINTS = (
    SHORT
    | REGULAR
    | st.tuples(FLOATS, st.integers(0, 130)).map(lambda of: [(i, of[0]) for i in range(of[1])])
)
WIDTHS = st.sampled_from([1, 1000, 60_000, 300_000, 7 * DAY_MS])


def _series(points: Points, width: int, first: int) -> Series:
    return Series.of([first + at * width for at, _ in points], [value for _, value in points])


def _holds_together(change: Change | None) -> None:
    if change is None:
        return
    assert 0 <= change.p <= 1
    assert (change.low is None) == (change.high is None)
    if change.low is not None and change.high is not None:
        assert change.low <= change.now - change.before <= change.high
    (alone,) = judged([change])
    assert alone.adjusted_p == change.p
    assert alone.significant == change.significant <= (change.p < ALPHA)


@settings(max_examples=150, deadline=None)
@given(before=POINTS, after=POINTS, width=WIDTHS, apart=st.sampled_from([0, DAY_MS, 10**10]))
def test_changes(before: Points, after: Points, width: int, apart: int) -> None:
    first, second = _series(before, width, 10**12), _series(after, width, 10**12 + apart)
    profile = DailyProfile.of(first)
    assert len(deseasonalised(second, profile)) <= len(second)
    for change in (
        pre_change("cost.avg", first, second),
        pre_change("cost.avg", first, second, profile),
        rolling("cost.avg", first, second),
    ):
        _holds_together(change)


@settings(max_examples=150, deadline=None)
@given(now=FLOATS, error=FLOATS, points=POINTS)
def test_changes_from_numbers(now: float, error: float, points: Points) -> None:
    _holds_together(same_hour("cost.avg", now, [value for _, value in points]))
    _holds_together(golden("cost.avg", _series(points, 1000, 10**12), now, error, 7))


@settings(max_examples=150, deadline=None)
@given(
    points=POINTS, width=WIDTHS, metric=st.sampled_from(["cost.avg", "errors.rate", "quality.avg", "else"])
)
def test_trends(points: Points, width: int, metric: str) -> None:
    series = _series(points, width, 10**12)
    found = trend(metric, series.times.tolist(), series.values.tolist())
    assert (found is None) == (len(series) < 10)
    if found is not None:
        assert 0 <= found.p <= 1
        assert found.significant == (found.direction != "none")
        assert 0 < found.effective_n <= found.n <= 120
        assert all(point.low <= point.mean <= point.high for point in found.forecast)
