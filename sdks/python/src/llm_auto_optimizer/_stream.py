"""Server-sent events, as the HTML standard defines them (section 9.2.6), from lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Event(NamedTuple):
    """`data` has its lines joined by newlines."""

    name: str
    data: str


def events(lines: Iterable[str]) -> Iterator[Event]:
    """The events of a stream. Comments, which keep the connection alive, and unfinished events give none."""
    name, data = "", list[str]()
    for line in lines:
        if not line:
            if data:
                yield Event(name or "message", "\n".join(data))
            name, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
