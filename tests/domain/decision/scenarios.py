"""Problems that the tests of deciding start from."""

from collections.abc import Sequence
from typing import Any

from domain.config import LLMConfig
from domain.decision.history import QUANTILES, MetricEstimate, Observation, TokenUse
from domain.decision.problem import DecisionProblem
from domain.policy import CandidateModel, Constraint, SearchSpace, ServicePolicy

NOW = 1_760_000_000_000
GPT4 = ("openai", "gpt-4-1106-preview")
MIXTRAL = ("mistral", "mixtral-8x7b-instruct-v0.1")


def config(provider: str = GPT4[0], model: str = GPT4[1], **changes: Any) -> LLMConfig:
    fields: dict[str, Any] = {
        "provider": provider,
        "model": model,
        "temperature": 0.7,
        "top_p": 1.0,
        "max_tokens": 1024,
        "streaming": False,
        "function_calling": False,
        "vision_enabled": False,
    }
    return LLMConfig(**(fields | changes))


def candidate(names: tuple[str, str], **given: Any) -> CandidateModel:
    return CandidateModel(provider=names[0], model=names[1], **given)


def tokens(mean_input: float = 1100, longest: float = 400) -> TokenUse:
    """Outputs spread evenly from 0 to `longest`."""
    return TokenUse(
        input=mean_input, output_quantiles=[longest * i / (QUANTILES - 1) for i in range(QUANTILES)]
    )


def observation(of: LLMConfig, *, n: int = 3000, **metrics: tuple[float, float]) -> Observation:
    """Metrics by their first word: `cost=(mean, se)` and so on; those not named have usual values."""
    names = {"cost": "cost.avg", "latency": "latency.p95", "quality": "quality.avg", "errors": "errors.rate"}
    usual = {
        "cost": (0.017, 2e-4),
        "latency": (9000.0, 150.0),
        "quality": (86.0, 0.7),
        "errors": (0.004, 0.001),
    }
    return Observation(
        config=of,
        incumbent=of == config(),
        n=n,
        metrics={names[k]: MetricEstimate(mean=m, se=s) for k, (m, s) in (usual | metrics).items()},
        tokens=tokens(),
        observed_at=NOW,
    )


def floor(quality: float) -> Constraint:
    return Constraint(id="floor", type="hard", metric="quality.avg", min=quality)


def problem(
    *,
    constraints: Sequence[Constraint] = (),
    history: Sequence[Observation] | None = None,
    models: Sequence[CandidateModel] = (candidate(GPT4), candidate(MIXTRAL)),
    space: dict[str, Any] | None = None,
    **rest: Any,
) -> DecisionProblem:
    """GPT-4 Turbo serves at a quality of 86; Mixtral may be chosen, at 1/36 of the price."""
    fields: dict[str, Any] = {
        "service": "chat",
        "incumbent": config(),
        "objectives": ServicePolicy(service="chat").objectives,
        "constraints": list(constraints),
        "search_space": SearchSpace(models=list(models), **(space or {})),
        "history": [observation(config())] if history is None else list(history),
        "now": NOW,
    }
    return DecisionProblem(**(fields | rest))
