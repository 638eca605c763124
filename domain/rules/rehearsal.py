"""Rules held against the recorded past: when each would have fired, moment by moment."""

from collections.abc import Callable, Sequence
from math import gcd

from pydantic import Field

from domain.analytics import MINUTE_MS, TimeRange
from domain.base import Message
from domain.conditions import WINDOW_MS, Rule
from domain.errors import InvalidRequest
from domain.rules.evaluation import evaluate
from domain.rules.firing import fired_of, held_back
from domain.rules.needs import needs, readings
from domain.rules.past import Course, Moment, Past
from domain.rules.signals import Findings
from domain.totals import PERCENTILES

MAX_CELLS = 50_000
"""How many cells of the past are read at most."""
MAX_READINGS = 200_000
"""How many windows are judged at most."""
MOST_LISTED = 500
"""Of how many firings of a rule the moment is told; the others are counted."""


class DryRunRequest(TimeRange):
    """Which rules to hold against which past; the saved ones, if left out. `step_ms`: how often to look."""

    rules: list[Rule] | None = Field(default=None, max_length=200)
    step_ms: int = Field(default=MINUTE_MS, ge=MINUTE_MS, multiple_of=MINUTE_MS)


class Firing(Message):
    """A moment (ms) at which a rule would have fired, and why."""

    at: int
    words: str


class RuleRehearsal(Message):
    """What a rule would have done: `fired` are the first of its `firings`.

    Its condition held at so many moments, cooldown or not, and at so many that could not be told, the last
    time because of `unknown_because`.
    """

    rule: str
    firings: int
    fired: list[Firing]
    held: int
    unknown: int
    unknown_because: str | None = None


class DryRunResponse(Message):
    """What the rules would have done at `moments` from `start` to `end` (ms), `step_ms` apart.

    Had they been in force, what they did would have changed what came after; that is not foretold here.
    """

    start: int
    end: int
    step_ms: int
    moments: int
    rules: list[RuleRehearsal]


def course(rules: Sequence[Rule], start: int, end: int, step_ms: int) -> Course:
    """Lay out a rehearsal of rules over [start, end] (ms), from the first whole minute on.

    Raises:
        InvalidRequest: there is no whole minute in it, or it is too much; says what would do.
    """
    first = -(-start // MINUTE_MS) * MINUTE_MS
    moments = range(first, end + 1, step_ms)
    if not moments:
        raise InvalidRequest("start: there is no whole minute between start and end")
    asked = needs(rule.condition for rule in rules)
    length = gcd(step_ms, *(WINDOW_MS[window] for window in asked.windows))
    reach = max((WINDOW_MS[window] * count for window, count in asked.windows.items()), default=0)
    judged = len(moments) * sum(readings(rule.condition) for rule in rules)
    if judged > MAX_READINGS:
        enough = -(-judged // MAX_READINGS) * step_ms
        raise InvalidRequest(
            f"stepMs: {judged:,} readings of windows are more than {MAX_READINGS:,}; ask for a stepMs of "
            f"{enough}, less time or fewer rules"
        )
    cells = (moments[-1] - first + reach) // length
    if cells > MAX_CELLS:
        raise InvalidRequest(
            f"start: {cells:,} pieces of {length // MINUTE_MS} min, those before start included, are more "
            f"than {MAX_CELLS:,}; ask for less time, longer windows or a coarser stepMs"
        )
    return Course(moments, first - reach, length, cells, reach // length, step_ms // length)


def rehearse(
    rules: Sequence[Rule], laid: Course, past: Past, findings: Callable[[int], Findings]
) -> list[RuleRehearsal]:
    """What each rule would have done, its cooldown and daily cap kept; one that is switched off as if on."""
    known = signals(rules, laid, past, findings)
    return [_rehearse(rule, laid.moments, known) for rule in rules]


def signals(
    rules: Sequence[Rule], laid: Course, past: Past, findings: Callable[[int], Findings]
) -> list[Moment]:
    """What rules go by at each of the moments of a course that was laid out for them."""
    _slide_all(rules, laid, past)
    return [
        Moment(past, laid.reach + index * laid.stride, laid.length, findings(at))
        for index, at in enumerate(laid.moments)
    ]


def _slide_all(rules: Sequence[Rule], laid: Course, past: Past) -> None:
    asked = needs(rule.condition for rule in rules)
    if not asked.metrics & PERCENTILES.keys():
        return
    for window, count in asked.windows.items():
        size = WINDOW_MS[window] // laid.length
        ends = range(laid.reach, laid.reach + len(laid.moments) * laid.stride, laid.stride)
        past.slide(window, (end - back * size for end in ends for back in range(count)))


def _rehearse(rule: Rule, moments: Sequence[int], known: Sequence[Moment]) -> RuleRehearsal:
    times: list[int] = []
    fired: list[Firing] = []
    held, unknown, because = 0, 0, None
    for at, moment in zip(moments, known, strict=True):
        found = evaluate(rule.condition, moment)
        if found.truth == "unknown":
            unknown, because = unknown + 1, found.words
        if not found.holds:
            continue
        held += 1
        if held_back(rule, fired_of(times, at), at) is None:
            times.append(at)
            if len(fired) < MOST_LISTED:
                fired.append(Firing(at=at, words=found.words))
    return RuleRehearsal(
        rule=rule.id,
        firings=len(times),
        fired=fired,
        held=held,
        unknown=unknown,
        unknown_because=because,
    )
