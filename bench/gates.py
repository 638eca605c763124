"""Figures beside what they have to reach."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Gate:
    """A figure, the bound that it must keep, and the one that would be better still.

    A ceiling is kept from below, otherwise the bound is a floor.
    """

    name: str
    figure: float
    bound: float
    stretch: float | None = None
    ceiling: bool = False

    def keeps(self, bound: float | None) -> bool:
        """Whether the figure keeps a bound; none is kept by nothing."""
        if bound is None:
            return False
        return self.figure <= bound if self.ceiling else self.figure >= bound

    def to_json(self) -> dict[str, Any]:
        """As it is printed."""
        stretch = {} if self.stretch is None else {"stretch": self.stretch}
        return {
            "name": self.name,
            "figure": self.figure,
            "ceiling" if self.ceiling else "floor": self.bound,
            **stretch,
            "met": self.keeps(self.bound),
        }


def concluded(bench: str, gates: Iterable[Gate], **figures: Any) -> int:
    """Print a benchmark's one line; gives its exit code, 1 where a gate is missed."""
    judged = [gate.to_json() for gate in gates]
    print(json.dumps({"bench": bench, "gates": judged, **figures}))
    return 0 if all(gate["met"] for gate in judged) else 1
