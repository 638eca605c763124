"""Simulated traffic of a rollout: what both arms share, and what the canary does differently."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from domain.gate import ArmBucket, Bucket

REQUESTS_PER_SECOND = 20.0
CHECK_SECONDS = 30

ERROR_RATE = 0.01
MEDIAN_MS, SIGMA_MS = 500.0, 0.8
MEDIAN_USD, SIGMA_USD = 0.002, 0.6
QUALITY, SIGMA_QUALITY = 80.0, 12.0
# While a rollout runs, quality sampling of 50 to 100 % is asked for.
SCORED = 0.5
P90_Z = 1.2815515655446004


@dataclass(frozen=True)
class Arm:
    """How an arm's requests differ from the base."""

    errors: float = 1.0
    latency: float = 1.0
    slowest_tenth: float = 1.0
    cost: float = 1.0
    quality: float = 0.0

    def times(self, other: "Arm") -> "Arm":
        """Both differences at once."""
        return Arm(
            self.errors * other.errors,
            self.latency * other.latency,
            self.slowest_tenth * other.slowest_tenth,
            self.cost * other.cost,
            self.quality + other.quality,
        )


BASE = Arm()


@dataclass(frozen=True)
class World:
    """What happens to both arms alike: an incident, bursts of errors, a drift."""

    incident: bool = False
    bursts: bool = False
    drift: bool = False

    def conditions(self, rng: np.random.Generator) -> Iterator[Arm]:
        """The shared conditions of bucket after bucket.

        An incident of 2.5 to 10 minutes begins at any time of the first 15: a fifth of the requests fail
        and the rest are half as slow again. Bursts: in one bucket of ten, a sixth of the requests fail. The
        drift runs over 20 minutes to errors x3, latency and cost +50 %, quality -8.
        """
        start = rng.uniform(0, 900)
        end = start + rng.uniform(150, 600)
        for number in range(10_000):
            now = BASE
            if self.incident and start <= number * CHECK_SECONDS < end:
                now = now.times(Arm(errors=20, latency=1.5))
            if self.bursts and rng.random() < 0.1:
                now = now.times(Arm(errors=16))
            if self.drift:
                part = min(number * CHECK_SECONDS / 1200, 1.0)
                now = now.times(Arm(1 + 2 * part, 1 + part / 2, 1.0, 1 + part / 2, -8 * part))
            yield now


@dataclass(frozen=True)
class Scenario:
    """A canary in a world, and the part of its runs that has to be, or may be, rolled back."""

    name: str
    canary: Arm = BASE
    world: World = field(default_factory=World)
    at_most: float | None = None
    at_least: float | None = None


SCENARIOS = (
    Scenario("A/A", at_most=0.01),
    Scenario("shared incident", world=World(incident=True), at_most=0.02),
    Scenario("bursts", world=World(bursts=True)),
    Scenario("drift", world=World(drift=True)),
    Scenario("at the margins", Arm(errors=1.25, latency=1.05, cost=1.05, quality=-1), at_most=0.05),
    Scenario("errors x3", Arm(errors=3)),
    Scenario("errors x10", Arm(errors=10), at_least=0.98),
    Scenario("latency +20 %", Arm(latency=1.2), at_least=0.98),
    Scenario("p95 +50 %", Arm(slowest_tenth=1.5)),
    Scenario("cost +30 %", Arm(cost=1.3), at_least=0.98),
    Scenario("quality -5", Arm(quality=-5), at_least=0.98),
)


def bucket(number: int, share: float, now: Arm, canary: Arm, rng: np.random.Generator) -> Bucket:
    """One bucket of Poisson traffic, each request drawing its arm."""
    n = int(rng.poisson(REQUESTS_PER_SECOND * CHECK_SECONDS))
    n_canary = int(rng.binomial(n, share / 100))
    return Bucket(
        id=number,
        share=share,
        control=_arm_bucket(n - n_canary, now, rng),
        canary=_arm_bucket(n_canary, now.times(canary), rng),
    )


def _arm_bucket(n: int, arm: Arm, rng: np.random.Generator) -> ArmBucket:
    errors = int(rng.binomial(n, min(ERROR_RATE * arm.errors, 1.0)))
    z = rng.standard_normal(n - errors)
    latency = MEDIAN_MS * arm.latency * np.exp(SIGMA_MS * z) * np.where(z > P90_Z, arm.slowest_tenth, 1.0)
    cost = MEDIAN_USD * arm.cost * np.exp(SIGMA_USD * rng.standard_normal(n))
    scores = rng.normal(QUALITY + arm.quality, SIGMA_QUALITY, rng.binomial(n, SCORED))
    return ArmBucket(
        n=n,
        errors=errors,
        latency_ms=latency.tolist(),
        cost_usd=cost.tolist(),
        quality=np.clip(scores, 0, 100).tolist(),
    )
