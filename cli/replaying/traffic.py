"""Endless traffic from the two files: what each request is, and what it would be with each model."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from cli.replaying.options import ReplayModel
from cli.replaying.traces import Arrival, Outcome


@dataclass(frozen=True, slots=True)
class Request:
    """A request of the replay: its number, when it is due (seconds of the trace), and its question."""

    number: int
    due: float
    arrival: Arrival
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Served:
    """What a model makes of a request. `quality` is 0 or 100."""

    tokens_input: int
    tokens_output: int
    latency_ms: float
    quality: float


class Traffic:
    """The arrivals in their order, again from the start when they are used up.

    Each gets a question at random, the same one whichever model serves it, and the same ones in every
    replay with the same seed.
    """

    def __init__(self, arrivals: Sequence[Arrival], outcomes: Sequence[Outcome], *, seed: int) -> None:
        self._arrivals = arrivals
        self._outcomes = outcomes
        self._random = random.Random(seed)
        self._number = 0
        span = arrivals[-1].at - arrivals[0].at
        self._period = span + span / (len(arrivals) - 1)

    @property
    def passes(self) -> int:
        """How many times the arrivals were begun."""
        return math.ceil(self._number / len(self._arrivals))

    @property
    def rate(self) -> float:
        """Requests per second of the trace's own time."""
        return len(self._arrivals) / self._period

    def until(self, due: float) -> list[Request]:
        """The requests due by then that were not taken before."""
        taken = []
        while self._next_due() <= due:
            taken.append(self._take())
        return taken

    def _next_due(self) -> float:
        lap, index = divmod(self._number, len(self._arrivals))
        return lap * self._period + self._arrivals[index].at

    def _take(self) -> Request:
        request = Request(
            number=self._number,
            due=self._next_due(),
            arrival=self._arrivals[self._number % len(self._arrivals)],
            outcome=self._outcomes[self._random.randrange(len(self._outcomes))],
        )
        self._number += 1
        return request


def serve(request: Request, models: Sequence[ReplayModel], index: int, max_tokens: int) -> Served:
    """What `models[index]` makes of the request; the first model is the incumbent.

    The recorded answer is the incumbent's. Another model's is longer or shorter in the proportion of their
    answers to the request's question, and none is longer than `max_tokens`. Latency is the time to the first
    token, and the answer's tokens over the decoding speed.
    """
    arrival, outcome, model = request.arrival, request.outcome, models[index]
    scaled = arrival.generated_tokens * outcome.tokens[index] / outcome.tokens[0]
    tokens_output = min(max_tokens, round(scaled))
    return Served(
        tokens_input=arrival.context_tokens,
        tokens_output=tokens_output,
        latency_ms=model.first_token_ms + 1000 * tokens_output / model.tokens_per_second,
        quality=100.0 if outcome.correct[index] else 0.0,
    )
