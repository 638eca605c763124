"""When a rule or trigger fires: its condition holds for certain, and neither cooldown nor cap forbids it."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.analytics import DAY_MS, HOUR_MS
from domain.conditions import AnomalyCondition, RollBack, Rule, Trigger
from domain.rules.evaluation import Evaluation, evaluate
from domain.rules.needs import leaves
from domain.rules.signals import Signals

DEFAULT_COOLDOWN_MS = HOUR_MS
"""Of a rule that names none: what holds for an hour is not done again every minute of it."""

Key = str
"""Which rule or trigger of a service is meant: `rule/<id>` or `trigger/<digest of its condition>`."""


@dataclass(frozen=True, slots=True)
class Fired:
    """When a rule or trigger fired last (ms), and how often within the last 24 h."""

    last_at: int
    in_day: int


@dataclass(frozen=True, slots=True)
class Judged:
    """A rule or trigger as it stands: its condition, and what holds it back although it may hold."""

    subject: Rule | Trigger
    key: Key
    evaluation: Evaluation
    held_back: str | None

    @property
    def fires(self) -> bool:
        """Whether it is to do now what it is for."""
        return self.evaluation.holds and self.held_back is None


def key_of(subject: Rule | Trigger) -> Key:
    """The name under which firings are kept. A trigger has no id: it is known by its condition."""
    if isinstance(subject, Rule):
        return f"rule/{subject.id}"
    text = json.dumps(subject.condition.to_json(), sort_keys=True, separators=(",", ":"))
    return f"trigger/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def judge_all(
    subjects: Sequence[Rule | Trigger], signals: Signals, fired: Mapping[Key, Fired], now: int
) -> list[Judged]:
    """Each of them as it stands at `now` (ms), rules that are switched off left out, higher priority first.

    Of equal priority a rollback goes first, then the order in which they are given.
    """
    enabled = [subject for subject in subjects if not isinstance(subject, Rule) or subject.enabled]
    return [
        Judged(
            subject,
            key := key_of(subject),
            evaluate(subject.condition, signals),
            held_back(subject, fired.get(key), now),
        )
        for subject in sorted(enabled, key=_precedence)
    ]


def _precedence(subject: Rule | Trigger) -> tuple[int, bool]:
    if isinstance(subject, Trigger):
        return (0, True)
    return (-subject.priority, not isinstance(subject.action, RollBack))


def held_back(subject: Rule | Trigger, fired: Fired | None, now: int) -> str | None:
    """What keeps it from firing at `now` (ms), given its earlier firings; None where nothing does.

    A clock that went back ends no cooldown.
    """
    if fired is None:
        return None
    cooldown = DEFAULT_COOLDOWN_MS if subject.cooldown_ms is None else subject.cooldown_ms
    left = cooldown - max(0, now - fired.last_at)
    if left > 0:
        return f"its cooldown has {-(-left // 1000)} s left"
    most = subject.max_per_day if isinstance(subject, Rule) else None
    if most is not None and fired.in_day >= most:
        return f"it fired {fired.in_day} times within 24 h, of {most} that it may"
    return None


def fired_of(times: Sequence[int], now: int) -> Fired | None:
    """What is known of firings at some times (ms, ascending) as of `now`."""
    return Fired(times[-1], len(times) - bisect_right(times, now - DAY_MS)) if times else None


def is_event(subject: Rule | Trigger) -> bool:
    """Whether what it waits for is something that happens (an anomaly), not a threshold that is passed."""
    return any(isinstance(leaf, AnomalyCondition) for leaf in leaves(subject.condition))
