"""What a request's telemetry comes to: reports yet to be judged, and what of it cannot be taken."""

from dataclasses import dataclass, field
from typing import Any

from domain.spans import SpanMark

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Item:
    """A report's fields, as JSON has them, and the span that it was made of, which `where` names."""

    mark: SpanMark
    fields: dict[str, Any]

    @property
    def where(self) -> str:
        """How it is called in an answer."""
        return f"span {self.mark.span.hex()}"


@dataclass(slots=True)
class Problems:
    """What is wrong: `rejected` items, and the reasons, those too for what was left out of an item."""

    rejected: int = 0
    reasons: list[str] = field(default_factory=list)

    def reject(self, where: str, reason: str, items: int = 1) -> None:
        """Have items that cannot be taken."""
        self.rejected += items
        self.note(where, reason)

    def note(self, where: str, reason: str) -> None:
        """Have something that was left out."""
        self.reasons.append(f"{where}: {reason}")

    def add(self, others: "Problems") -> None:
        """Have those that were found elsewhere too."""
        self.rejected += others.rejected
        self.reasons += others.reasons

    @property
    def message(self) -> str:
        """The first reasons, and how many more there are."""
        more = len(self.reasons) - SHOWN
        return "; ".join((*self.reasons[:SHOWN], *([f"and {more} more"] if more > 0 else [])))
