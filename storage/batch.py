"""A caller's reports on their way into PostgreSQL."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from domain.errors import OptimizerError
from domain.idempotency import Answer, Claim
from storage.samples import Row

if TYPE_CHECKING:
    from asyncpg import Connection, Record

Outcome = Answer | OptimizerError


class Newness(Protocol):
    """Tells which rows of a batch were never written, by names that their senders gave them."""

    async def of(
        self, connection: "Connection[Record]", rows: Sequence[Row], services: Iterable[str]
    ) -> list[Row]:
        """Those rows, noted as written in the present transaction. `services` are the batch's."""


@dataclass(slots=True, eq=False)
class Batch:
    """Rows of one table that are written together or not at all, or as far as they are `new`.

    `early`: its caller was answered when it came in, and its rows hold so many `bytes`. Else the caller waits
    for `done`.
    """

    table: str
    rows: list[Row]
    services: frozenset[str]
    answer: Answer
    claim: Claim | None
    early: bool = False
    new: Newness | None = None
    bytes: int = 0
    done: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def settle(self, outcome: Outcome) -> None:
        """Wake the caller, if it still waits."""
        if self.early or self.done.done():
            return
        if isinstance(outcome, Answer):
            self.done.set_result(outcome)
        else:
            self.done.set_exception(outcome)


@dataclass(slots=True, eq=False)
class Group:
    """Batches that share a transaction.

    `mark` tells this transaction from all others of its writer. What was answered early is tried again under
    the same mark when nobody knows how the commit ended, and so it is written once.
    """

    batches: list[Batch]
    mark: str | None
