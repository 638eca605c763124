"""An entry of the ledger: one metric of one deployment, predicted and measured."""

from math import sqrt
from typing import Literal

from pydantic import Field

from domain.base import Message
from domain.decision.responses import Z90
from domain.ledger.effects import predicted_effect
from domain.ledger.measurement import Measurement, improvement
from domain.plan import Prediction

Outcome = Literal["completed", "rolled_back", "failed"]

_SMALLEST = 1e-9
_LARGEST_NEED = 1e3


class Promise(Message):
    """What a plan promises: levels by metric, and the probability that it beats the present configuration.

    `incumbent` has the levels that the predictions started from, `widening` the factors, by metric, that they
    were widened by; 1 where there is none.
    """

    predictions: dict[str, Prediction]
    confidence: float = Field(ge=0, le=1)
    incumbent: dict[str, float] = Field(default_factory=dict)
    widening: dict[str, float] = Field(default_factory=dict)


class Comparison(Message):
    """A measured effect against the predicted one, on the scale of `effects`.

    `sd` and `se` are the standard deviation claimed and the standard error of the measurement. `held`: the
    measured effect lies within the 90 % interval that the prediction makes of it, which is that of the effect
    widened by the error of the measurement, |error| <= 1.64 sqrt(sd² + se²). A prediction that is right about
    its own uncertainty holds nine times in ten however few requests it was measured on (the prediction
    interval of a replication: Patil, Peng & Leek, Perspectives on Psychological Science, 2016).
    `standardised` is the error in those units, and `need` the factor on the standard deviation, before any
    widening, at which the interval would just have held: sqrt((error / 1.64)² - se²) / sd, nil at least.
    """

    predicted: float
    measured: float
    error: float
    sd: float
    se: float
    standardised: float
    held: bool
    need: float


class LedgerEntry(Message):
    """A metric of a deployment.

    `predicted` is the level under the new configuration that the plan promised, which started from the level
    `incumbent`; its standard deviation is already widened by the factor `widening`. A change made by hand has
    none. `measured` is as of the last check. Times are ms; `settled_at` and `outcome` are there once the
    deployment has ended. `stopped`: the gate ended it on these very figures, so that they exaggerate.
    """

    deployment_id: str
    service: str
    scope: str
    metric: str
    opened_at: int
    settled_at: int | None = None
    outcome: Outcome | None = None
    stopped: bool = False
    predicted: Prediction | None = None
    incumbent: float | None = None
    widening: float = 1.0
    measured: Measurement | None = None
    comparison: Comparison | None = None

    @property
    def improvement(self) -> float | None:
        """What was measured, as a fraction of control, positive is better."""
        if self.measured is None:
            return None
        return improvement(self.metric, self.measured.control, self.measured.difference)

    def compared(self) -> "LedgerEntry":
        """This with its comparison, once it has ended and both effects are known."""
        return self.model_copy(update={"comparison": self._comparison()})

    def _comparison(self) -> Comparison | None:
        if self.settled_at is None or self.predicted is None or self.incumbent is None:
            return None
        found = self.measured
        if found is None or found.effect is None or found.se is None or found.se_anytime is None:
            return None
        promised = predicted_effect(self.metric, self.predicted, self.incumbent)
        if promised is None:
            return None
        se = found.se_anytime if self.stopped else found.se
        error = found.effect - promised.mean
        spread = max(sqrt(promised.sd**2 + se**2), _SMALLEST)
        beyond = sqrt(max((error / Z90) ** 2 - se**2, 0.0))
        need = self.widening * beyond / max(promised.sd, _SMALLEST)
        return Comparison(
            predicted=promised.mean,
            measured=found.effect,
            error=error,
            sd=promised.sd,
            se=se,
            standardised=error / spread,
            held=abs(error) <= Z90 * spread,
            need=min(need, _LARGEST_NEED),
        )
