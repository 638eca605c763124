"""How many values a label may take in a day.

Callers choose labels freely. Every new combination is one more series in each rollup, so that a label that
holds an id or a question's text would cost more than the reports themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

SERVICES = 10_000
ENDPOINTS = 1_000
MODELS = 500
CONFIG_VERSIONS = 2_000
ERROR_TYPES = 200
REMEMBERED = 200_000
"""Combinations that are known at once; the values behind them are never forgotten within a day."""

_DAY_MS = 86_400_000


class Labels(NamedTuple):
    """A report's labels, None where it has none of that kind."""

    service: str
    endpoint: str | None = None
    provider: str | None = None
    model: str | None = None
    config_version: str | None = None
    error_type: str | None = None


@dataclass(slots=True)
class _Values:
    """What a service's labels have been."""

    endpoints: set[str] = field(default_factory=set)
    models: set[tuple[str | None, str]] = field(default_factory=set)
    config_versions: set[str] = field(default_factory=set)
    error_types: set[str] = field(default_factory=set)


class LabelLimits:
    """The label values of a UTC day, of which each service may have so many and no more.

    One for a process: several let as many times more through.
    """

    def __init__(self) -> None:
        self._day = 0
        self._values: dict[str, _Values] = {}
        self.known: set[tuple[str | None, ...]] = set()
        """Combinations that were let through, for a caller to look into before it asks `refusal`."""

    def turn_to(self, now_ms: int) -> None:
        """Forget everything if a new day has come."""
        day = now_ms // _DAY_MS
        if day > self._day:
            self._day = day
            self._values.clear()
            self.known.clear()

    def learn(self, seen: Iterable[Labels], now_ms: int) -> None:
        """Take in labels that are in use today, past the limits even."""
        self.turn_to(now_ms)
        for labels in seen:
            self._add(self._values.setdefault(labels.service, _Values()), labels)

    def refusal(self, labels: Labels) -> str | None:
        """Which label may have no new value, None where the labels are let through, and are known now."""
        if labels in self.known:
            return None
        values = self._values.get(labels.service)
        if values is None:
            if len(self._values) >= SERVICES:
                return f"service: more than {SERVICES} different values today"
            values = self._values[labels.service] = _Values()
        for name, seen, value, limit in _kinds(values, labels):
            if value is not None and value not in seen and len(seen) >= limit:
                return f"{name}: more than {limit} different values of service {labels.service!r} today"
        self._add(values, labels)
        return None

    def _add(self, values: _Values, labels: Labels) -> None:
        for _, seen, value, _ in _kinds(values, labels):
            if value is not None:
                seen.add(value)
        if len(self.known) >= REMEMBERED:
            self.known.clear()
        self.known.add(labels)


def _kinds(values: _Values, labels: Labels) -> tuple[tuple[str, set[Any], Any, int], ...]:
    model = None if labels.model is None else (labels.provider, labels.model)
    return (
        ("endpoint", values.endpoints, labels.endpoint, ENDPOINTS),
        ("model", values.models, model, MODELS),
        ("configVersion", values.config_versions, labels.config_version, CONFIG_VERSIONS),
        ("errorType", values.error_types, labels.error_type, ERROR_TYPES),
    )
