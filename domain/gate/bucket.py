"""What the gate looks at: one time bucket of traffic, in which one share held."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from domain.base import Message

# Far beyond any real value, and small enough that a bucket's sum of squares stays finite.
LARGEST = 1e12

Amount = Annotated[float, Field(ge=0, le=LARGEST)]
Score = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0, le=int(LARGEST))]


class ArmBucket(Message):
    """One arm's requests in a bucket.

    `n` counts requests and `errors` the failed ones; where failures come in whole sessions, count one per
    session, since the tests take requests as independent. `latency_ms` holds successes only (a timeout is an
    error), `cost_usd` the requests whose price is known, `quality` the scores that arrived, 0..100, whenever
    the requests that they belong to came.
    """

    n: Count
    errors: Count = 0
    latency_ms: list[Amount] = Field(default_factory=list)
    cost_usd: list[Amount] = Field(default_factory=list)
    quality: list[Score] = Field(default_factory=list)

    @model_validator(mode="after")
    def _no_more_than_n(self) -> Self:
        if self.errors > self.n:
            raise ValueError("more errors than requests")
        if max(len(self.latency_ms), len(self.cost_usd)) > self.n:
            raise ValueError("more latencies or costs than requests")
        return self


class Bucket(Message):
    """Both arms over one stretch of time by arrival at the server.

    `id` grows from bucket to bucket (its start in milliseconds, say); `share` is the percent of the traffic
    that the canary was given, 95 while 5 % are held back.
    """

    id: int
    share: Annotated[float, Field(ge=0, le=100)]
    control: ArmBucket
    canary: ArmBucket
