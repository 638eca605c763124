"""The error rate: canary against control by counts, exact at any sample size."""

from typing import Annotated

import numpy as np
from pydantic import Field

from domain.base import Message
from domain.gate.counts import Count, ratio_step
from domain.gate.means import Moments, PairSums
from domain.gate.settings import GuardrailSettings

HARM_MULTIPLES = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
PROOF_MULTIPLES = (1.4, 1.8, 2.2, 2.5, 3.0, 4.0)


def _zeros(n: int) -> list[float]:
    return [0.0] * n


class ErrorState(Message):
    """What was counted so far: ln L per ratio in both directions, and the canary's own count.

    `pair` holds both arms' rates over the buckets that both had requests in.
    """

    harm: Annotated[list[float], Field(min_length=7, max_length=7)] = Field(
        default_factory=lambda: _zeros(len(HARM_MULTIPLES))
    )
    proof: Annotated[list[float], Field(min_length=6, max_length=6)] = Field(
        default_factory=lambda: _zeros(len(PROOF_MULTIPLES))
    )
    pair: PairSums = Field(default_factory=PairSums)
    errors: int = 0
    n: int = 0

    @property
    def canary(self) -> Count:
        """The canary's errors among all its requests."""
        return Count(self.errors, self.n)

    def add(self, control: Count, canary: Count, settings: GuardrailSettings) -> "ErrorState":
        """This and one more bucket."""
        harm = ratio_step(canary, control, 1 + settings.tolerance, HARM_MULTIPLES)
        proof = ratio_step(control, canary, 1 / (1 + settings.critical), PROOF_MULTIPLES)
        return ErrorState.model_construct(
            harm=(np.asarray(self.harm) + harm).tolist(),
            proof=(np.asarray(self.proof) + proof).tolist(),
            pair=self.pair.add(Moments.of_count(*control), Moments.of_count(*canary)),
            errors=self.errors + canary.events,
            n=self.n + canary.trials,
        )
