"""Two models on recorded outcomes: each question was answered by both, right or wrong, in so many tokens.

From a CSV file with the columns promptTokens, mixtral8x7bTokens, mixtral8x7bCorrect, gpt4TurboTokens,
gpt4TurboCorrect, a question a line. Not recorded and therefore modelled: latency (a time to the first token,
then a decode speed) and, an answer that maxTokens cuts off being wrong, what truncation does. Temperature and
topP are not varied, since nothing was recorded of them.
"""

from pathlib import Path

import numpy as np

from bench.worlds import POPULATION, Requests, World, bounds_of, objectives, plain_config
from domain.config import LLMConfig
from domain.policy import CandidateModel, IntRange, SearchSpace

MODELS = (
    CandidateModel(
        provider="mistral",
        model="mixtral-8x7b-instruct-v0.1",
        price_per_m_tok_in=0.24,
        price_per_m_tok_out=0.24,
    ),
    CandidateModel(
        provider="openai", model="gpt-4-1106-preview", price_per_m_tok_in=24.7, price_per_m_tok_out=24.7
    ),
)
SPEED = (90.0, 30.0)
FIRST_TOKEN_MS = (300.0, 700.0)
ERRORS = 0.003


class RecordedWorld(World):
    """Some of the recorded questions; a request is one of them, drawn with replacement."""

    def __init__(
        self,
        name: str,
        rows: np.ndarray,
        incumbent: int,
        weights: tuple[float, float, float],
        slack: float,
        slower: float,
    ) -> None:
        self.name = name
        self._rows = rows
        self.models = list(MODELS)
        self.space = SearchSpace(models=self.models, max_tokens=IntRange(min=64, max=1024))
        self.incumbent = plain_config(MODELS[incumbent])
        self.objectives = objectives(*weights)
        self.constraints = []
        self.constraints = bounds_of(self.truth(self.incumbent), slack, latency=slower)

    def serve(self, config: LLMConfig, n: int, rng: np.random.Generator) -> Requests:
        return self._answer(config, self._rows[rng.integers(len(self._rows), size=n)], rng)

    def population(self, config: LLMConfig) -> Requests:
        whole = np.tile(self._rows, (POPULATION // len(self._rows) + 1, 1))
        return self._answer(config, whole, np.random.default_rng(20_240_229))

    def _answer(self, config: LLMConfig, rows: np.ndarray, rng: np.random.Generator) -> Requests:
        which = [model.key for model in MODELS].index(config.model_key)
        prompt = rows[:, 0].astype(np.float64)
        wanted, right = rows[:, 1 + 2 * which].astype(np.float64), rows[:, 2 + 2 * which]
        output = np.minimum(wanted, config.max_tokens)
        first = FIRST_TOKEN_MS[which] * np.exp(0.3 * rng.standard_normal(len(rows)))
        decode = 1000 * output / SPEED[which] * np.exp(0.2 * rng.standard_normal(len(rows)))
        price_in, price_out = (
            MODELS[which].price_per_m_tok_in or 0.0,
            MODELS[which].price_per_m_tok_out or 0.0,
        )
        return Requests(
            failed=rng.random(len(rows)) < ERRORS,
            latency_ms=first + decode,
            cost_usd=(prompt * price_in + output * price_out) / 1e6,
            tokens_input=prompt,
            tokens_output=output,
            quality=100.0 * right * (wanted <= config.max_tokens),
        )


def recorded(path: Path, seed: int, slack: float) -> list[RecordedWorld]:
    """Eight tasks: the questions by the length of the dear model's answer in three, and a random half; in
    each the dear model serves and cost counts most, or the cheap one and quality does.

    The floor on quality lets the cheap model in by `slack` points, but keeps it out in the random half.
    """
    rows = np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int64)
    rng = np.random.default_rng([seed, 2])
    shuffled = rng.permutation(rows)
    half = len(rows) // 2
    by_length = np.array_split(shuffled[half:][np.argsort(shuffled[half:, 3], kind="stable")], 3)
    made = []
    for number, questions in enumerate([*by_length, shuffled[:half]]):
        apart = 100 * max(0.0, float(questions[:, 4].mean() - questions[:, 2].mean()))
        allowed = slack if number == len(by_length) else apart + slack
        for incumbent, weights in ((1, (0.5, 0.2, 0.3)), (0, (0.05, 0.05, 0.9))):
            name = f"recorded-2/{seed}.{number}.{incumbent}"
            made.append(
                RecordedWorld(name, questions, incumbent, weights, allowed, 20.0 if incumbent == 0 else 1.5)
            )
    return made
