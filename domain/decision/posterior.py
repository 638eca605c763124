"""A Gaussian process over configurations with structured priors and fixed hyperparameters.

The covariance of two configurations a, b is

    s_b² cap(a) cap(b) + s_c² cut(a) cut(b) + s_m² [model] + s_x² M(a, b) + s_mx² [model] M(a, b)

with cap the expected capability and cut the share of answers cut off by maxTokens, both against the incumbent
(how much either counts is known within s_b and s_c), [model] 1 for the same model, and M the Matern kernel
of smoothness 5/2 (Rasmussen & Williams 2006, eq. 4.17) over (effective temperature / 2, topP,
ln maxTokens / ln 41, ln(1 + topK) / ln 1001), in which no topK is the largest. Of topK's effect nothing is
known but that it is weaker than the others': its length scale is four times theirs, so that what was measured
at one topK tells much of the next. The posterior is their eq. 2.23 and 2.24 on what measurements differ from
the prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from domain.config import LLMConfig
from domain.decision.priors import Priors, effective_temperature
from domain.decision.providers import takes_top_k
from domain.decision.responses import Response

Array = NDArray[np.float64]

LENGTH_SCALES = np.array([0.35, 0.5, 0.5, 2.0])

_NO_TOP_K = 1000


def effective_top_k(config: LLMConfig) -> int:
    """topK, 1000 where it cuts nothing off: it is not set (0 says so too), or the provider takes none."""
    return (config.top_k if takes_top_k(config.provider) else None) or _NO_TOP_K


@dataclass(frozen=True, slots=True)
class Points:
    """Configurations as the kernel sees them: `shape` (n, 4), `capability`, `cut` and `model` (n,)."""

    shape: Array
    capability: Array
    cut: Array
    model: NDArray[np.int64]

    @staticmethod
    def of(configs: Sequence[LLMConfig], priors: Priors, models: dict[str, int]) -> "Points":
        """`models` numbers the models, and takes up those that are new."""
        shape = [
            (
                effective_temperature(c.temperature, c.top_p) / 2,
                c.top_p,
                log(c.max_tokens) / log(41),
                log(1 + effective_top_k(c)) / log(1 + _NO_TOP_K),
            )
            for c in configs
        ]
        return Points(
            np.array(shape, dtype=np.float64).reshape(-1, 4) / LENGTH_SCALES,
            np.array([priors.capability(c) for c in configs], dtype=np.float64),
            np.array([priors.cut_change(c) for c in configs], dtype=np.float64),
            np.array([models.setdefault(c.model_key, len(models)) for c in configs], dtype=np.int64),
        )


@dataclass(frozen=True, slots=True)
class Relation:
    """What relates two sets of configurations, apart from a response's own standard deviations."""

    capability: Array
    cut: Array
    same_model: Array
    matern: Array

    @staticmethod
    def between(a: Points, b: Points) -> "Relation":
        squared = np.zeros((len(a.capability), len(b.capability)))
        for dimension in range(a.shape.shape[1]):
            squared += np.subtract.outer(a.shape[:, dimension], b.shape[:, dimension]) ** 2
        distance = np.sqrt(5 * squared)
        return Relation(
            np.outer(a.capability, b.capability),
            np.outer(a.cut, b.cut),
            np.equal.outer(a.model, b.model).astype(np.float64),
            (1 + distance + distance**2 / 3) * np.exp(-distance),
        )

    def covariance(self, response: Response) -> Array:
        """The prior covariance of a response."""
        return np.asarray(
            response.capability**2 * self.capability
            + response.cut**2 * self.cut
            + response.model**2 * self.same_model
            + (response.shape**2 + response.model_shape**2 * self.same_model) * self.matern
        )


@dataclass(frozen=True, slots=True)
class Belief:
    """A response at the candidates, on its modelled scale.

    `mean` and `sd` of each; `change` and `change_sd` are those of the difference from the incumbent, whose
    own mean is `incumbent`. NaN where the prior knows nothing.
    """

    mean: Array
    sd: Array
    change: Array
    change_sd: Array
    incumbent: float
    incumbent_sd: float

    def widened(self, factor: float) -> "Belief":
        """The same with every standard deviation multiplied."""
        return replace(
            self,
            sd=factor * self.sd,
            change_sd=factor * self.change_sd,
            incumbent_sd=factor * self.incumbent_sd,
        )


class Geometry:
    """The relations among observed configurations and candidates; the incumbent is the first observed."""

    def __init__(self, observed: Points, candidates: Points) -> None:
        self.among_observed = Relation.between(observed, observed)
        self.across = Relation.between(observed, candidates)
        self.capability = candidates.capability
        self.cut = candidates.cut

    def believe(
        self, response: Response, observed_prior: Array, residual: Array, variance: Array, prior: Array
    ) -> Belief:
        """The posterior, given what each observed configuration differs from its prior by.

        `residual` and `variance` (n observed): NaN where a configuration lacks the metric. `observed_prior`
        and `prior` are the prior means of the observed and of the candidates.
        """
        seen = np.flatnonzero(np.isfinite(residual))
        among, across = self.among_observed.covariance(response), self.across.covariance(response)
        # The incumbent is predicted along with the candidates, whether or not it has this metric.
        query = np.column_stack([among[:, 0], across])
        solved = _solve(among[np.ix_(seen, seen)] + np.diag(variance[seen]), query[seen])
        shift = solved.T @ residual[seen]
        own = np.concatenate([among[0, :1], self._own_variance(response)])
        left = np.maximum(own - np.einsum("ij,ij->j", query[seen], solved), 0.0)
        shared = across[0] - query[seen, 0] @ solved[:, 1:]
        incumbent, level = float(observed_prior[0] + shift[0]), prior + shift[1:]
        return Belief(
            mean=level,
            sd=np.sqrt(left[1:]),
            change=level - incumbent,
            change_sd=np.sqrt(np.maximum(left[1:] + left[0] - 2 * shared, 0.0)),
            incumbent=incumbent,
            incumbent_sd=float(np.sqrt(left[0])),
        )

    def _own_variance(self, response: Response) -> Array:
        flat = response.model**2 + response.shape**2 + response.model_shape**2
        return np.asarray(response.capability**2 * self.capability**2 + response.cut**2 * self.cut**2 + flat)


def _solve(covariance: Array, right: Array) -> Array:
    """covariance⁻¹ right, by Cholesky; nothing observed is nothing learnt."""
    if not covariance.size:
        return np.zeros_like(right)
    return np.asarray(cho_solve(cho_factor(covariance, lower=True), right))
