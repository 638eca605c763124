"""Examples of requests and answers for the OpenAPI document, by operation id."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Example:
    """A request's body, where there is one, and the answer to it."""

    response: Any = None
    request: Any = None


EXAMPLES: dict[str, Example] = {}
