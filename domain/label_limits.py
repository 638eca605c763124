"""How many values a label may take in a day.

Callers choose labels freely. Every new combination is one more series in each rollup, so that a label that
holds an id or a question's text would cost more than the reports themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any, NamedTuple

SERVICES = 10_000
ENDPOINTS = 1_000
MODELS = 500
CONFIG_VERSIONS = 2_000
ERROR_TYPES = 200
BYTES = 48 * 1024 * 1024
"""About what the values of all services may hold of memory."""
REMEMBERED = 50_000
"""Combinations that are known at once; the values behind them are never forgotten within a day."""

_VALUE_BYTES = 60
_SERVICE_BYTES = 1_200
_TEXT_BYTES = 100
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
        self._texts: dict[str, str] = {}
        self._held = 0
        self.known: set[tuple[str | None, ...]] = set()
        """Combinations that were let through, for a caller to look into before it asks `refusal`."""

    def turn_to(self, now_ms: int) -> None:
        """Forget everything if a new day has come."""
        day = now_ms // _DAY_MS
        if day > self._day:
            self._day = day
            self._values.clear()
            self._texts.clear()
            self._held = 0
            self.known.clear()

    def learn(self, seen: Iterable[Labels], now_ms: int) -> None:
        """Take in labels that are in use today, past the limits of services even."""
        self.turn_to(now_ms)
        for labels in seen:
            if self._held < BYTES:
                self._add(labels)

    def refusal(self, labels: Labels) -> str | None:
        """Which label may have no new value, None where the labels are let through, and are known now."""
        if labels in self.known:
            return None
        values = self._values.get(labels.service)
        if values is None and len(self._values) >= SERVICES:
            return f"service: more than {SERVICES} different values today"
        new = ["service"] if values is None else []
        for name, seen, value, limit in _kinds(values or _Values(), labels):
            if value is not None and value not in seen:
                if len(seen) >= limit:
                    return f"{name}: more than {limit} different values of service {labels.service!r} today"
                new.append(name)
        if new and self._held >= BYTES:
            return f"{new[0]}: the different values of all services are too many today"
        known = self._add(labels)
        if len(self.known) >= REMEMBERED:
            self.known.clear()
        self.known.add(known)
        return None

    def _add(self, labels: Labels) -> Labels:
        """Keep what is new of labels; gives them as they are kept, each text once."""
        shared = Labels._make(None if text is None else self._shared(text) for text in labels)
        values = self._values.get(shared.service)
        if values is None:
            values = self._values[shared.service] = _Values()
            self._held += _SERVICE_BYTES
        for _, seen, value, _ in _kinds(values, shared):
            if value is not None and value not in seen:
                seen.add(value)
                self._held += _VALUE_BYTES + (getsizeof(value) if isinstance(value, tuple) else 0)
        return shared

    def _shared(self, text: str) -> str:
        shared = self._texts.get(text)
        if shared is None:
            shared = self._texts[text] = text
            self._held += getsizeof(text) + _TEXT_BYTES
        return shared


def _kinds(values: _Values, labels: Labels) -> tuple[tuple[str, set[Any], Any, int], ...]:
    model = None if labels.model is None else (labels.provider, labels.model)
    return (
        ("endpoint", values.endpoints, labels.endpoint, ENDPOINTS),
        ("model", values.models, model, MODELS),
        ("configVersion", values.config_versions, labels.config_version, CONFIG_VERSIONS),
        ("errorType", values.error_types, labels.error_type, ERROR_TYPES),
    )
