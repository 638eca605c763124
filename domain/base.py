"""The base of every message: camelCase JSON, strict types, unknown fields refused."""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

MAX_MILLIS = 253_402_300_799_999
"""The last millisecond of the year 9999, past which no time can be kept."""


class Message(BaseModel):
    """A value that crosses a boundary: HTTP, a Temporal payload, a JSON column.

    Field names are snake_case in Python and camelCase in JSON. Numbers are finite. A string is never
    taken for a number, nor a number for a string. Times are integer milliseconds since the epoch.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
    )

    def to_json(self) -> dict[str, Any]:
        """This value as JSON-ready camelCase, absent optional fields left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
