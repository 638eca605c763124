"""Who gets the canary: by unit and hash, the same in the server and in every SDK."""

import mmh3

BUCKETS = 10_000


def bucket_of(salt: str, unit: str) -> int:
    """The unit's bucket, 0..9999: MurmurHash3 x86 32 of `salt:unit` in UTF-8, seed 0, modulo 10,000.

    The salt is the deployment's id, so that each rollout draws its units anew. A unit keeps its bucket for
    the whole rollout: nobody flips within a step, and raising the share keeps those who already have it.
    """
    return mmh3.hash(f"{salt}:{unit}".encode(), signed=False) % BUCKETS


def assigned_to_canary(salt: str, unit: str, percent: float) -> bool:
    """Whether the unit gets the canary while `percent` (0..100) of the traffic does."""
    return bucket_of(salt, unit) < percent * 100
