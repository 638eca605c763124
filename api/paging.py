"""Lists by `limit` and `offset`."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

MAX_LIMIT = 500
MAX_OFFSET = 10**12


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50
    offset: Annotated[int, Query(ge=0, le=MAX_OFFSET)] = 0


PageQuery = Annotated[Page, Depends()]
