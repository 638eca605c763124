"""The posterior against scikit-learn's Gaussian process with the same, fixed kernel."""

import warnings

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Kernel

from domain.config import LLMConfig
from domain.decision.pooling import pool
from domain.decision.posterior import Array, Geometry, Points, Relation
from domain.decision.priors import Priors
from domain.decision.responses import RESPONSES, Response
from domain.policy import SearchSpace
from tests.domain.decision.scenarios import GPT4, MIXTRAL, NOW, candidate, config, observation

OBSERVED = [config(), config(temperature=0.2), config(*MIXTRAL), config(*MIXTRAL, max_tokens=300)]
QUERIES = [config(max_tokens=256), config(*MIXTRAL, temperature=1.5), config("own", "llama", top_p=0.4)]


class Written(Kernel):  # type: ignore[misc]  # scikit-learn has no types
    """The kernel as it is written down, pair by pair: (T_eff, topP, ln maxTokens, capability, model, cut)."""

    def __init__(self, response: Response) -> None:
        self.response = response

    def __call__(self, a: Array, b: Array | None = None, eval_gradient: bool = False) -> Array:
        return np.array([[self._pair(x, y) for y in (a if b is None else b)] for x in a])

    def _pair(self, x: Array, y: Array) -> float:
        r = self.response
        scaled = [
            (x[0] - y[0]) / 2 / 0.35,
            (x[1] - y[1]) / 0.5,
            (x[2] - y[2]) / np.log(41) / 0.5,
        ]
        d = np.sqrt(5 * sum(s * s for s in scaled))
        matern = (1 + d + d * d / 3) * np.exp(-d)
        same = float(x[4] == y[4])
        return float(
            r.capability**2 * x[3] * y[3]
            + r.cut**2 * x[5] * y[5]
            + r.model**2 * same
            + r.shape**2 * matern
            + r.model_shape**2 * same * matern
        )

    def diag(self, a: Array) -> Array:
        return np.array([self._pair(x, x) for x in a])

    def is_stationary(self) -> bool:
        return False


def expectations() -> Priors:
    pooled = pool([observation(c) for c in OBSERVED], config(), NOW)
    return Priors(pooled, SearchSpace(models=[candidate(GPT4), candidate(MIXTRAL)]), NOW)


def rows(configs: list[LLMConfig], priors: Priors) -> Array:
    names = sorted({c.model_key for c in OBSERVED + QUERIES})
    return np.array(
        [
            [
                c.temperature
                if c.temperature <= 1
                else 1 + (c.temperature - 1) * min(1, max(0, (c.top_p - 0.8) / 0.15)),
                c.top_p,
                np.log(c.max_tokens),
                priors.capability(c),
                names.index(c.model_key),
                # Outputs are spread evenly up to 400 tokens: a hundred and one of them.
                sum(4 * i >= 0.98 * c.max_tokens for i in range(101)) / 101,
            ]
            for c in configs
        ]
    )


@pytest.mark.parametrize("metric", ["cost.avg", "latency.p95", "quality.avg", "errors.rate"])
def test_equals_scikit_learn(metric: str) -> None:
    response, priors = RESPONSES[metric], expectations()
    models: dict[str, int] = {}
    geometry = Geometry(Points.of(OBSERVED, priors, models), Points.of(QUERIES, priors, models))
    residual, variance = np.array([0.02, -0.3, 0.15, 0.1]), np.array([1e-3, 2e-3, 5e-3, 1e-2])
    prior, before = np.array([0.4, 0.5, 0.6]), np.array([0.1, 0.2, 0.3, 0.4])
    belief = geometry.believe(response, before, residual, variance, prior)

    process = GaussianProcessRegressor(kernel=Written(response), alpha=variance, optimizer=None)
    process.fit(rows(OBSERVED, priors), residual)
    mean, covariance = process.predict(rows([config(), *QUERIES], priors), return_cov=True)
    assert belief.mean == pytest.approx(prior + mean[1:])
    assert belief.sd == pytest.approx(np.sqrt(np.diag(covariance)[1:]))
    assert belief.incumbent == pytest.approx(0.1 + mean[0])
    assert belief.incumbent_sd == pytest.approx(np.sqrt(covariance[0, 0]))
    assert belief.change == pytest.approx(prior + mean[1:] - 0.1 - mean[0])
    change_variance = covariance[0, 0] + np.diag(covariance)[1:] - 2 * covariance[0, 1:]
    assert belief.change_sd == pytest.approx(np.sqrt(change_variance))


def test_what_lacks_the_metric_teaches_nothing() -> None:
    response, priors = RESPONSES["quality.avg"], expectations()
    models: dict[str, int] = {}
    queries = Points.of(QUERIES, priors, models)
    with_gap = Geometry(Points.of(OBSERVED, priors, models), queries).believe(
        response,
        np.zeros(4),
        np.array([0.1, np.nan, 0.2, np.nan]),
        np.array([1e-3, np.nan, 1e-3, np.nan]),
        np.zeros(3),
    )
    without = Geometry(Points.of([OBSERVED[0], OBSERVED[2]], priors, models), queries).believe(
        response, np.zeros(2), np.array([0.1, 0.2]), np.array([1e-3, 1e-3]), np.zeros(3)
    )
    assert with_gap.mean == pytest.approx(without.mean)
    assert with_gap.change_sd == pytest.approx(without.change_sd)


def test_nothing_measured_leaves_the_prior() -> None:
    response, priors = RESPONSES["quality.avg"], expectations()
    models: dict[str, int] = {}
    geometry = Geometry(Points.of(OBSERVED, priors, models), Points.of(QUERIES, priors, models))
    nothing = np.full(4, np.nan)
    belief = geometry.believe(response, np.zeros(4), nothing, nothing, np.array([0.1, 0.2, 0.3]))
    assert belief.mean == pytest.approx([0.1, 0.2, 0.3])
    flat = response.model**2 + response.shape**2 + response.model_shape**2
    capable = priors.capability(QUERIES[1])
    short = np.sqrt(flat + (response.cut * 38 / 101) ** 2)  # of 101 lengths 38 are 251 tokens or more
    assert belief.sd[0] == pytest.approx(short)
    assert belief.sd[1] == pytest.approx(np.sqrt(flat + (response.capability * capable) ** 2))


def test_the_covariance_is_positive_definite_over_a_whole_grid() -> None:
    priors = expectations()
    grid = [
        config(*names, temperature=t, max_tokens=m, top_p=p)
        for names in (GPT4, MIXTRAL)
        for t in (0.0, 0.7, 1.4)
        for m in (1, 256, 10**8)
        for p in (0.0, 1.0)
    ]
    points = Points.of(grid, priors, {})
    for response in RESPONSES.values():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = np.linalg.eigvalsh(Relation.between(points, points).covariance(response))
        assert values.min() > -1e-12
