"""How large the first step of a rollout has to be for the gate to see anything in it."""

FIRST_PERCENT = 5.0
MOST_PERCENT = 50.0
MIN_REQUESTS = 50
STEP_SECONDS = 300.0


def first_share(
    requests_per_second: float, *, step_seconds: float = STEP_SECONDS, least: float = FIRST_PERCENT
) -> float:
    """Percent of the traffic for the first step: `least`, or what brings 50 requests in it, at most 50."""
    expected = requests_per_second * step_seconds
    needed = 100 * MIN_REQUESTS / expected if expected > 0 else MOST_PERCENT
    return max(least, min(needed, MOST_PERCENT))
