"""Totals of many windows over one history, from cells that were read once."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.sketches import Sketch
from domain.totals import Amount, Totals

Group = tuple[str | None, ...]

_AMOUNTS = ("latency", "cost", "tokens_input", "tokens_output", "tokens_total", "quality")
_COUNTS = 3
"""How many numbers of a cell are its requests, its errors and its extreme scores."""
_NEVER = -1


@dataclass(frozen=True, slots=True)
class _Cell:
    """A cell without the arrays of its sketches, of which there may be very many."""

    at: int
    last_at: int
    sums: list[float]
    pairs: list[bytes]

    @classmethod
    def of(cls, at: int, totals: Totals, sketches: Sequence[str]) -> "_Cell":
        sums: list[float] = [totals.n, totals.errors, totals.extremes]
        for name in _AMOUNTS:
            amount: Amount = getattr(totals, name)
            sums += [amount.n, amount.total, amount.squares]
        found = [getattr(totals, name).sketch for name in sketches]
        pairs = [b"" if sketch is None else sketch.to_bytes() for sketch in found]
        return cls(at, _NEVER if totals.last_at is None else totals.last_at, sums, pairs)


@dataclass(frozen=True, slots=True)
class _Series:
    """A group's cells in the order of time: `sums` has a row for each, `pairs` a sketch's pairs one cell
    after the other, `ends` where each cell's begin, and where the last's end.
    """

    at: NDArray[np.int64]
    last_at: NDArray[np.int64]
    sums: NDArray[np.float64]
    pairs: dict[str, bytes]
    ends: dict[str, NDArray[np.int64]]

    @classmethod
    def of(cls, cells: list[_Cell], sketches: Sequence[str]) -> "_Series":
        cells.sort(key=lambda cell: cell.at)
        listed = {name: [cell.pairs[number] for cell in cells] for number, name in enumerate(sketches)}
        return cls(
            at=np.array([cell.at for cell in cells], dtype=np.int64),
            last_at=np.array([cell.last_at for cell in cells], dtype=np.int64),
            sums=np.array([cell.sums for cell in cells], dtype=np.float64),
            pairs={name: b"".join(pairs) for name, pairs in listed.items()},
            ends={name: np.cumsum([0, *map(len, pairs)], dtype=np.int64) for name, pairs in listed.items()},
        )

    def totals(self, first: int, last: int) -> Totals:
        sums = self.sums[first:last].sum(axis=0)
        n, errors, extremes = map(int, sums[:_COUNTS])
        amounts = {
            name: Amount(int(count), float(total), float(squares), self._sketch(name, first, last))
            for name, (count, total, squares) in zip(_AMOUNTS, sums[_COUNTS:].reshape(-1, 3), strict=True)
        }
        at = int(self.last_at[first:last].max())
        return Totals(n, errors, None if at == _NEVER else at, extremes=extremes, **amounts)

    def _sketch(self, name: str, first: int, last: int) -> Sketch | None:
        if name not in self.pairs:
            return None
        ends = self.ends[name]
        return Sketch.of_bytes(self.pairs[name][ends[first] : ends[last]])


class Windows:
    """A history as totals per cell of time and group, which adds them up over any window of whole cells.

    Cells may be added in any order, and be of any length; `sketches` names the amounts whose sketches are
    wanted. A window costs one sum of a slice per group, however many cells it has.
    """

    def __init__(self, *, sketches: Sequence[str] = ()) -> None:
        self._sketches = sketches
        self._cells: dict[Group, list[_Cell]] = defaultdict(list)
        self._made: dict[Group, _Series] | None = None

    def add(self, at: int, group: Group, totals: Totals) -> None:
        """Add the cell of a group that begins at `at` (ms)."""
        self._cells[group].append(_Cell.of(at, totals, self._sketches))
        self._made = None

    @property
    def groups(self) -> Collection[Group]:
        """Every group that has a cell."""
        return self._cells.keys()

    def over(self, start: int, end: int) -> dict[Group, Totals]:
        """What each group that had anything had in the cells that begin in [start, end) (ms)."""
        found = {}
        for group, series in self._series.items():
            first, last = np.searchsorted(series.at, (start, end)).tolist()
            if first < last:
                found[group] = series.totals(first, last)
        return found

    def begins(self, since: int) -> dict[Group, int]:
        """When the first cell at or after `since` (ms) begins in which each group had a request."""
        found = {}
        for group, series in self._series.items():
            at = series.at[(series.at >= since) & (series.sums[:, 0] > 0)]
            if at.size:
                found[group] = int(at[0])
        return found

    @property
    def _series(self) -> dict[Group, _Series]:
        if self._made is None:
            self._made = {group: _Series.of(cells, self._sketches) for group, cells in self._cells.items()}
        return self._made
