"""Which units of a rollout get the canary: the same answer in the server and in every SDK."""

from __future__ import annotations

import random

import mmh3

BUCKETS = 10_000


def bucket(salt: str, unit: str) -> int:
    """The unit's place, 0..9999: MurmurHash3_x86_32 of `salt:unit` in UTF-8, seed 0, modulo 10,000."""
    return mmh3.hash(f"{salt}:{unit}".encode(), 0, signed=False) % BUCKETS


def takes_canary(deployment_id: str, unit: str | None, traffic_percent: float) -> bool:
    """Whether this unit gets the canary at this share (0..100). Without a unit, drawn anew each time."""
    place = random.randrange(BUCKETS) if unit is None else bucket(deployment_id, unit)
    return place < traffic_percent * 100
