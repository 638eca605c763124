"""Made-up services: models answer questions of some difficulty, in answers of some length, at some speed.

Each request is a question whose difficulty is drawn. A model answers it by a logistic item response
(Rasch 1960): its ability less the difficulty. Ability on the task is general capability, which prices and
public scores tell of more or less truly, and a taste for the task, which nothing tells of. Temperature has a
best value that belongs to the task, and a limit past which the model falls apart; topP weakens it. Harder
questions take longer answers; an answer that is cut off is mostly lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import exp, log

import numpy as np
from scipy.special import expit, ndtr, ndtri
from scipy.stats import qmc

from bench.worlds import POPULATION, Array, Requests, World, bounds_of, objectives, plain_config
from domain.config import LLMConfig
from domain.policy import CandidateModel, IntRange, Range, SearchSpace

SPACE = SearchSpace(
    temperature=Range(min=0.0, max=1.5),
    top_p=Range(min=0.5, max=1.0),
    max_tokens=IntRange(min=128, max=2048),
)

CHANCES = 8
"""Of what is left to chance in a request: its difficulty, length, speed, luck and so on."""


@dataclass(frozen=True, slots=True)
class Level:
    """How truly what is public tells of the task.

    `price` is the correlation of log price and capability, `score_noise` the error of public scores in
    points (None: there are no scores), `misplaced` whether scores belong to other models, `taste` the
    standard deviation of what a model does on this task beside its capability.
    """

    name: str
    price: float
    score_noise: float | None
    taste: float
    misplaced: bool = False


LEVELS = (
    Level("easy", price=0.9, score_noise=3.0, taste=0.15),
    Level("medium", price=0.7, score_noise=7.0, taste=0.35),
    Level("unscored", price=0.6, score_noise=None, taste=0.35),
    Level("hard", price=0.4, score_noise=12.0, taste=0.6),
    Level("misled", price=0.5, score_noise=3.0, taste=0.35, misplaced=True),
)


@dataclass(frozen=True, slots=True)
class Base:
    """What the incumbent truly does: USD per request, ms at the 95th percentile, quality 0..100."""

    cost: float = 0.01
    latency: float = 6000.0
    quality: float = 80.0


@dataclass(frozen=True, slots=True)
class Model:
    """A model's mechanics; prices in USD per million tokens, `speed` in tokens a second."""

    entry: CandidateModel
    ability: float
    price_in: float
    price_out: float
    verbosity: float
    first_token_ms: float
    speed: float
    errors: float
    heat_limit: float


@dataclass(frozen=True, slots=True)
class Task:
    """What a service is asked: questions, the length of answers, what temperature does to them."""

    difficulty: float
    spread: float
    length: float
    length_spread: float
    prompt: float
    best_temperature: float
    temperature_cost: float
    graded: bool
    kept_when_cut: float


class SyntheticWorld(World):
    """A task and the models that may do it."""

    def __init__(
        self,
        name: str,
        task: Task,
        models: Sequence[Model],
        incumbent: int,
        weights: tuple[float, float, float],
    ) -> None:
        self.name = name
        self.task = task
        self._models = {model.entry.key: model for model in models}
        self.models = [model.entry for model in models]
        self.space = SPACE.model_copy(update={"models": self.models})
        self.incumbent = plain_config(self.models[incumbent])
        self.objectives = objectives(*weights)
        self.constraints = []

    def constrain(self, slack: float) -> "SyntheticWorld":
        """With hard constraints about what the incumbent does."""
        self.constraints = bounds_of(self.truth(self.incumbent), slack)
        return self

    def serve(self, config: LLMConfig, n: int, rng: np.random.Generator) -> Requests:
        return self._answer(config, rng.standard_normal((CHANCES, n)))

    def population(self, config: LLMConfig) -> Requests:
        return self._answer(config, _spread_evenly())

    def _answer(self, config: LLMConfig, chances: Array) -> Requests:
        model, task = self._models[config.model_key], self.task
        hard, wordy, slow, lag, luck, mood, fate, long = chances
        hot = config.temperature * config.top_p**1.5
        length = task.length + log(model.verbosity) + 0.3 * hard + task.length_spread * wordy + 0.15 * hot
        wanted = np.maximum(np.exp(length), 1.0)
        output = np.minimum(wanted, config.max_tokens)
        apart = np.logaddexp(0.0, 5 * (hot - model.heat_limit)) / 2
        ability = model.ability - task.temperature_cost * (hot - task.best_temperature) ** 2 - apart
        right = expit(1.7 * (ability - task.difficulty - task.spread * hard))
        right = np.where(wanted > config.max_tokens, task.kept_when_cut * right, right)
        quality = (
            np.clip(100 * right + 12 * mood, 0, 100) if task.graded else 100.0 * (_uniform(luck) < right)
        )
        prompt = task.prompt * np.exp(0.5 * long - 0.125)
        first = model.first_token_ms * np.exp(0.35 * lag) * (1 + prompt / 8000)
        failing = model.errors + 0.3 * expit(6 * (hot - model.heat_limit - 0.4))
        return Requests(
            failed=_uniform(fate) < failing,
            latency_ms=first + 1000 * output / model.speed * np.exp(0.25 * slow),
            cost_usd=(prompt * model.price_in + output * model.price_out) / 1e6,
            tokens_input=prompt,
            tokens_output=output,
            quality=quality,
        )

    def calibrated(self, base: Base, *, prices: bool = True) -> "SyntheticWorld":
        """The same with speeds, difficulty and (unless they are given) prices such that the incumbent does
        what `base` says."""
        low, high = -6.0, 6.0
        for _ in range(12):
            middle = (low + high) / 2
            self.task = replace(self.task, difficulty=middle)
            self._reset()
            too_easy = self.truth(self.incumbent)["quality.avg"] > base.quality
            low, high = (middle, high) if too_easy else (low, middle)
        truth = self.truth(self.incumbent)
        dearer = base.cost / truth["cost.avg"] if prices else 1.0
        slower = base.latency / truth["latency.p95"]
        self._models = {key: _scaled(model, dearer, slower) for key, model in self._models.items()}
        self.models = [model.entry for model in self._models.values()]
        self.space = self.space.model_copy(update={"models": self.models})
        self._reset()
        return self

    def _reset(self) -> None:
        self.__dict__.pop("_truths", None)


def synthetic(
    seed: int,
    level: Level,
    base: Base,
    *,
    models: int = 8,
    slack: float = 4.0,
    number: int = 0,
    heat: bool = True,
) -> SyntheticWorld:
    """A service with so many models, one of the abler ones serving; `slack` in points of quality.

    Of two models the dearer serves, and in three tasks of four the floor lets the other in by `slack`; a pair
    whose other model does half as well or worse is drawn again, since no floor would mean anything there.
    Without `heat` temperature and topP are not varied: the model and maxTokens are all there is to choose.
    """
    rng = np.random.default_rng([seed, number, models, LEVELS.index(level)])
    while True:
        world = _drawn(rng, level, models, f"synthetic-{models}/{level.name}/{seed}.{number}")
        if not heat:
            world.space = world.space.model_copy(update={"temperature": None, "top_p": None})
        world.calibrated(base)
        if models != 2:
            return world.constrain(slack)
        other = next(model for model in world.models if model.key != world.incumbent.model_key)
        quality = world.truth(plain_config(other)).get("quality.avg", 0.0)
        if quality > base.quality / 2:
            let_in = max(0.0, base.quality - quality) if number % 4 < 3 else 0.0
            return world.constrain(slack + let_in)


def _drawn(rng: np.random.Generator, level: Level, models: int, name: str) -> SyntheticWorld:
    made = _models(rng, level, models)
    able = np.argsort([-model.ability for model in made])[: max(2, models // 2)]
    weights = ((0.5, 0.2, 0.3), (0.7, 0.0001, 0.3), (0.4, 0.3, 0.3))[int(rng.integers(3))]
    serving = int(rng.choice(able))
    if models == 2:
        serving = int(np.argmax([model.price_out for model in made]))
    return SyntheticWorld(name, task_of(rng), made, serving, weights)


def task_of(rng: np.random.Generator) -> Task:
    """A task at random."""
    return Task(
        difficulty=0.0,
        spread=float(rng.uniform(0.5, 1.5)),
        length=log(rng.uniform(60, 500)),
        length_spread=float(rng.uniform(0.3, 0.8)),
        prompt=float(rng.uniform(150, 3000)),
        best_temperature=float(rng.uniform(0.0, 1.0)),
        temperature_cost=float(rng.uniform(0.0, 0.8)),
        graded=bool(rng.random() < 0.5),
        kept_when_cut=float(rng.uniform(0.0, 0.5)),
    )


def _models(rng: np.random.Generator, level: Level, count: int) -> list[Model]:
    capability = rng.standard_normal(count)
    other = rng.standard_normal(count)
    log_price = 1.3 * (level.price * capability + np.sqrt(1 - level.price**2) * other)
    scores = np.clip(70 + 11 * capability + (level.score_noise or 0.0) * rng.standard_normal(count), 1, 99)
    if level.misplaced:
        scores = rng.permutation(scores)
    made = []
    for index in range(count):
        price_in = exp(log_price[index])
        price_out = price_in * float(rng.uniform(2, 5))
        entry = CandidateModel(
            provider="lab",
            model=f"m{index}",
            score=None if level.score_noise is None else float(scores[index]),
            price_per_m_tok_in=price_in,
            price_per_m_tok_out=price_out,
        )
        made.append(
            Model(
                entry=entry,
                ability=float(capability[index] + level.taste * rng.standard_normal()),
                price_in=price_in,
                price_out=price_out,
                verbosity=float(np.exp(0.3 * rng.standard_normal())),
                first_token_ms=float(np.exp(rng.normal(6.0, 0.4))),
                speed=float(np.exp(rng.normal(4.2 - 0.15 * log_price[index], 0.35))),
                errors=float(np.exp(rng.normal(-5.5, 0.6))),
                heat_limit=float(rng.uniform(0.9, 1.5)),
            )
        )
    return made


def _scaled(model: Model, dearer: float, slower: float) -> Model:
    price_in, price_out = model.price_in * dearer, model.price_out * dearer
    given = {"price_per_m_tok_in": price_in, "price_per_m_tok_out": price_out}
    entry = model.entry.model_copy(update={} if model.entry.price_per_m_tok_in is None else given)
    return replace(
        model,
        entry=entry,
        price_in=price_in,
        price_out=price_out,
        first_token_ms=model.first_token_ms * slower,
        speed=model.speed / slower,
    )


@cache
def _spread_evenly() -> Array:
    """Standard normal points of a scrambled Sobol sequence (Owen 1998), chances in rows."""
    points = qmc.Sobol(CHANCES, scramble=True, rng=np.random.default_rng(20_240_229))
    return np.asarray(ndtri(points.random(POPULATION)).T)


def _uniform(normal: Array) -> Array:
    """Standard normal draws as uniform ones."""
    return np.asarray(ndtr(normal))
