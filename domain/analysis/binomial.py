"""Whether a share of failures differs from the one expected, by counts and not by the share alone."""

from scipy.special import betainc


def chance_of_as_many(k: int, n: int, p: float) -> float:
    """P(X >= k) of a binomial X of n trials, exact: the regularised incomplete beta I_p(k, n-k+1)."""
    return 1.0 if k <= 0 else float(betainc(k, n - k + 1, p))


def chance_of_as_few(k: int, n: int, p: float) -> float:
    """P(X <= k) of a binomial X of n trials, exact."""
    return 1.0 if k >= n else float(betainc(n - k, k + 1, 1 - p))
