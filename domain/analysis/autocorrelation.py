"""How much neighbouring windows tell twice: noise of the form e_i = rho e_(i-1) + u_i, AR(1)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def lag_one(parts: Sequence[tuple[NDArray[np.float64], NDArray[np.bool_]]]) -> float:
    """The autocorrelation at lag 1, pooled over parts: mean product of neighbours over mean square.

    A part is its residuals (n, with mean or trend already taken off) and whether each but the last has its
    neighbour next to it (n - 1). 0 where there is no neighbour or no variance. Biased towards 0: what was
    estimated to take it off, the caller corrects for.
    """
    products = sum(float(r[:-1][beside] @ r[1:][beside]) for r, beside in parts)
    squares = sum(float(r @ r) for r, _ in parts)
    pairs = sum(int(beside.sum()) for _, beside in parts)
    if not pairs or squares <= 0:
        return 0.0
    return products / pairs / (squares / sum(r.size for r, _ in parts))


def inflation(n: int, rho: float) -> float:
    """Variance of the mean of n values of AR(1), as a multiple of that of n independent ones.

    1 + 2 sum_(j=1..n-1) (1 - j/n) rho^j, in closed form, for 0 <= rho < 1; n divided by it is the effective
    sample size (Bayley & Hammersley 1946).
    """
    return (1 + rho) / (1 - rho) - 2 * rho * (1 - rho**n) / (n * (1 - rho) ** 2)
