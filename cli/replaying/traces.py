"""The two files of a replay: when requests came, and how each model answered questions."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cli.replaying.errors import ReplayError

Row = dict[str | None, str | None]

ARRIVAL_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
PROMPT_COLUMN = "promptTokens"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request: seconds since the first one, tokens of its prompt and of the answer that it got."""

    at: float
    context_tokens: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A question: per model its answer's tokens and whether that was correct, in the models' order."""

    prompt_tokens: int
    tokens: tuple[int, ...]
    correct: tuple[bool, ...]


def read_arrivals(path: Path) -> list[Arrival]:
    """The requests in the order of their time.

    Raises:
        ReplayError: the file, line and column that cannot be used.
    """
    requests = [
        (row.time("TIMESTAMP"), row.count("ContextTokens"), row.count("GeneratedTokens"))
        for row in _rows(path, ARRIVAL_COLUMNS)
    ]
    if len({time.tzinfo is None for time, _, _ in requests}) > 1:
        raise ReplayError(f"{path}: some times have a zone, others have none")
    requests.sort(key=lambda request: request[0])
    first = requests[0][0]
    if requests[-1][0] == first:
        raise ReplayError(f"{path}: all requests come at one time, which gives no rate")
    return [
        Arrival((time - first).total_seconds(), context, generated) for time, context, generated in requests
    ]


def read_outcomes(path: Path, names: tuple[str, ...]) -> list[Outcome]:
    """The questions with the answers of the models of these names, the incumbent's first.

    Raises:
        ReplayError: the file, line and column that cannot be used.
    """
    columns = [PROMPT_COLUMN]
    for name in names:
        columns += [f"{name}Tokens", f"{name}Correct"]
    return [
        Outcome(
            prompt_tokens=row.count(PROMPT_COLUMN),
            tokens=tuple(row.count(f"{name}Tokens", at_least=1) for name in names),
            correct=tuple(row.count(f"{name}Correct", at_most=1) == 1 for name in names),
        )
        for row in _rows(path, columns)
    ]


@dataclass(frozen=True, slots=True)
class _Row:
    path: Path
    line: int
    cells: Row

    def time(self, column: str) -> datetime:
        try:
            return datetime.fromisoformat(self._text(column))
        except ValueError as error:
            raise self._fault(column, "is no ISO 8601 time") from error

    def count(self, column: str, *, at_least: int = 0, at_most: int = 100_000_000) -> int:
        try:
            number = int(self._text(column))
        except ValueError as error:
            raise self._fault(column, "is no whole number") from error
        if not at_least <= number <= at_most:
            raise self._fault(column, f"is not within {at_least}..{at_most}")
        return number

    def _text(self, column: str) -> str:
        return (self.cells[column] or "").strip()

    def _fault(self, column: str, fault: str) -> ReplayError:
        return ReplayError(f"{self.path}, line {self.line}, column {column}: {self._text(column)!r} {fault}")


def _rows(path: Path, columns: tuple[str, ...] | list[str]) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            header = reader.fieldnames or []
            missing = [column for column in columns if column not in header]
            if missing:
                found = ", ".join(header) or "nothing"
                raise ReplayError(f"{path}, line 1: no column {', '.join(missing)}; it has {found}")
            empty = True
            for cells in reader:
                empty = False
                yield _Row(path, reader.line_num, cells)
            if empty:
                raise ReplayError(f"{path}: no rows below the header")
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ReplayError(f"{path}: not UTF-8 text") from error
    except csv.Error as error:
        raise ReplayError(f"{path}: not CSV: {error}") from error
