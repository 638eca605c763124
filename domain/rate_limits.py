"""How much one key may ask for."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PerMinute = Annotated[int, Field(ge=0, le=1_000_000_000)]


class RateLimits(BaseModel):
    """Requests per minute and key, by what they ask for; 0 lifts a limit.

    `reports` are batches of metrics and evaluations, `writes` whatever changes something else.
    `wrong_keys` is per client address, for requests whose key nobody knows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    reports: PerMinute = 60_000
    reads: PerMinute = 6_000
    writes: PerMinute = 600
    wrong_keys: PerMinute = 120
