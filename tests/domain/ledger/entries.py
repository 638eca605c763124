"""Entries of a ledger, made from the few numbers that a test is about."""

from math import exp
from typing import Any

from domain.decision.responses import Z90
from domain.deployment import Samples
from domain.ledger.entry import LedgerEntry
from domain.ledger.measurement import Measurement
from domain.plan import Prediction


def cost_entry(
    *, promised: float, sd: float, measured: float | None, se: float = 0.0, **given: Any
) -> LedgerEntry:
    """An entry on cost with effects in ln: promised with its standard deviation, and measured with its error.

    The incumbent cost a cent when the plan was made, and twice that while the rollout ran.
    """
    then, now = 0.01, 0.02
    level = Prediction(
        mean=then * exp(promised),
        low=then * exp(promised - Z90 * sd),
        high=then * exp(promised + Z90 * sd),
        samples=0,
    )
    found = None
    if measured is not None:
        found = Measurement(
            control=now,
            canary=now * exp(measured),
            difference=now * exp(measured) - now,
            effect=measured,
            se=se,
            se_anytime=2 * se,
            samples=Samples(control=100, canary=100),
        )
    fields: dict[str, Any] = {
        "deployment_id": "dep_1",
        "service": "chat",
        "scope": "chat",
        "metric": "cost.avg",
        "opened_at": 1,
        "settled_at": 2,
        "outcome": "completed",
        "predicted": level,
        "incumbent": then,
        "measured": found,
    }
    return LedgerEntry(**(fields | given)).compared()
