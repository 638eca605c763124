"""Nine models at their list prices, with made-up quality: what a service that shops around can choose from.

Prices are those that the product knows. General capability is invented, in the order that people would
expect; what a model does on the task at hand differs from it by chance.
"""

from math import exp

import numpy as np

from bench.synthetic import Base, Model, SyntheticWorld, task_of
from domain.policy import CandidateModel
from domain.pricing import token_prices

MODELS: tuple[tuple[str, str, float, float, float], ...] = (
    ("openai", "gpt-4o", 0.7, 75.0, 420.0),
    ("openai", "gpt-4o-mini", -0.3, 85.0, 400.0),
    ("openai", "gpt-4.1", 1.0, 70.0, 480.0),
    ("openai", "gpt-4.1-nano", -0.9, 120.0, 350.0),
    ("anthropic", "claude-sonnet-4-0", 1.4, 60.0, 900.0),
    ("anthropic", "claude-3-5-haiku-latest", 0.0, 65.0, 700.0),
    ("google", "gemini-2.5-flash", 0.6, 150.0, 500.0),
    ("mistral", "mistral-small-latest", -0.4, 90.0, 450.0),
    ("deepseek", "deepseek-chat", 0.8, 35.0, 1200.0),
)
"""Provider, model, capability (invented), decode speed in tokens a second, ms to the first token."""

TASTE = 0.35


def listed(
    seed: int, base: Base, *, scored: bool, slack: float = 4.0, models: int = 9, number: int = 0
) -> SyntheticWorld:
    """A service with the first so many of the models, one of the dear ones serving.

    List prices fix what a request costs, so that of `base` the cost is not used.
    """
    rng = np.random.default_rng([seed, int(scored), number])
    chosen = MODELS[:models]
    made = [_model(*row, scored=scored, rng=rng) for row in chosen]
    dear = np.argsort([-m.price_out for m in made])[: max(2, models // 3)]
    weights = ((0.5, 0.2, 0.3), (0.7, 0.0001, 0.3))[int(rng.integers(2))]
    name = f"listed-{models}/{'scored' if scored else 'unscored'}/{seed}.{number}"
    world = SyntheticWorld(name, task_of(rng), made, int(rng.choice(dear)), weights)
    return world.calibrated(base, prices=False).constrain(slack)


def _model(
    provider: str,
    model: str,
    capability: float,
    speed: float,
    first_token_ms: float,
    *,
    scored: bool,
    rng: np.random.Generator,
) -> Model:
    prices = token_prices(provider, model)
    if prices is None:
        raise LookupError(f"no list price of {provider}/{model}")
    ability, score, verbosity, errors = rng.standard_normal(4)
    return Model(
        entry=CandidateModel(
            provider=provider,
            model=model,
            score=float(np.clip(65 + 10 * capability + 4 * score, 1, 99)) if scored else None,
        ),
        ability=capability + TASTE * float(ability),
        price_in=prices.input * 1e6,
        price_out=prices.output * 1e6,
        verbosity=exp(0.3 * verbosity),
        first_token_ms=first_token_ms,
        speed=speed,
        errors=exp(-5.5 + 0.6 * errors),
        heat_limit=float(rng.uniform(0.9, 1.5)),
    )
