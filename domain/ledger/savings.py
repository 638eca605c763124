"""What changes saved: USD per request, measured, times the requests that the new version answered."""

from collections.abc import Iterable
from math import fsum, hypot

from domain.base import Message
from domain.ledger.entry import LedgerEntry


class PerRequest(Message):
    """USD saved per request, with an interval."""

    usd: float
    low: float
    high: float


class Saved(Message):
    """USD saved over some requests, with an interval; below nil where the change costs more."""

    requests: int
    usd: float
    low: float
    high: float

    @staticmethod
    def of(each: PerRequest, requests: int) -> "Saved":
        return Saved(
            requests=requests, usd=requests * each.usd, low=requests * each.low, high=requests * each.high
        )

    @staticmethod
    def total(parts: Iterable["Saved"]) -> "Saved":
        """All together. The parts' errors are independent, so that their half-widths add up in squares."""
        parts = list(parts)
        usd = fsum(part.usd for part in parts)
        below = hypot(*(part.usd - part.low for part in parts))
        above = hypot(*(part.high - part.usd for part in parts))
        return Saved(
            requests=sum(part.requests for part in parts), usd=usd, low=usd - below, high=usd + above
        )


class DeploymentSavings(Message):
    """What a deployment saved.

    Per request: what was `promised` (90 % interval; none for a change made by hand) and what canary against
    control `showed` (95 %; absent while too few requests are priced). `measured` is over the priced requests
    of the canary that were compared with control; `projected` over all others that the new version has
    answered, on the assumption that each saves what those did; `expected` over both together as promised.
    """

    deployment_id: str
    service: str
    scope: str
    from_version: str
    to_version: str
    status: str
    opened_at: int
    settled_at: int | None = None
    control: float | None = None
    canary: float | None = None
    promised: PerRequest | None = None
    showed: PerRequest | None = None
    measured: Saved | None = None
    projected: Saved | None = None
    expected: Saved | None = None


class Versions(Message):
    """A deployment's versions and status."""

    from_version: str
    to_version: str
    status: str


def deployment_savings(entry: LedgerEntry, of: Versions, answered: int) -> DeploymentSavings:
    """The savings of a deployment, from its entry on `cost.avg`; `answered` counts its version's requests."""
    promised, showed = _promised(entry), _showed(entry)
    compared = entry.measured.samples.canary if entry.measured else 0
    rest = max(answered - compared, 0)
    return DeploymentSavings(
        deployment_id=entry.deployment_id,
        service=entry.service,
        scope=entry.scope,
        from_version=of.from_version,
        to_version=of.to_version,
        status=of.status,
        opened_at=entry.opened_at,
        settled_at=entry.settled_at,
        control=entry.measured.control if entry.measured else None,
        canary=entry.measured.canary if entry.measured else None,
        promised=promised,
        showed=showed,
        measured=Saved.of(showed, compared) if showed else None,
        projected=Saved.of(showed, rest) if showed else None,
        expected=Saved.of(promised, compared + rest) if promised else None,
    )


class TotalSavings(Message):
    """All deployments together, with 95 % intervals.

    `both` is what was measured and what is projected from it. Of deployments that had a promise and were
    measured, `expected` and `came_to` are what was promised for their requests and what these came to.
    `unmeasured` deployments have no figure yet, or never got one, and count for nothing.
    """

    deployments: int
    unmeasured: int
    measured: Saved
    projected: Saved
    both: Saved
    expected: Saved
    came_to: Saved


def total_savings(found: Iterable[DeploymentSavings]) -> TotalSavings:
    """The sums over deployments."""
    every = list(found)
    known = [one for one in every if one.showed is not None]
    promised = [one for one in known if one.expected is not None]
    return TotalSavings(
        deployments=len(every),
        unmeasured=len(every) - len(known),
        measured=Saved.total(one.measured for one in known if one.measured),
        projected=Saved.total(one.projected for one in known if one.projected),
        both=Saved.total(map(_both, known)),
        expected=Saved.total(one.expected for one in promised if one.expected),
        came_to=Saved.total(map(_both, promised)),
    )


def _both(one: DeploymentSavings) -> Saved:
    """Measured and projected rest on one difference: what is in error in one is so in the other."""
    parts = [part for part in (one.measured, one.projected) if part]
    assert one.showed is not None
    return Saved.of(one.showed, sum(part.requests for part in parts))


def _promised(entry: LedgerEntry) -> PerRequest | None:
    if entry.predicted is None or entry.incumbent is None:
        return None
    level = entry.predicted
    return PerRequest(
        usd=entry.incumbent - level.mean, low=entry.incumbent - level.high, high=entry.incumbent - level.low
    )


def _showed(entry: LedgerEntry) -> PerRequest | None:
    found = entry.measured
    if found is None or found.low is None or found.high is None:
        return None
    return PerRequest(usd=-found.difference, low=-found.high, high=-found.low)
