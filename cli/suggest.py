"""`llm-optimizer suggest`: the next configuration to try, or the one to keep, on anybody's own numbers."""

import time
from typing import Annotated, Any, Literal, Self

import typer
from pydantic import Field, model_validator
from pydantic_core import from_json

from cli.json_lines import answer_each
from domain.base import MAX_MILLIS, Message
from domain.config import LLMConfig, Name
from domain.decision.decide import decide
from domain.decision.history import MetricEstimate, Observation, TokenUse
from domain.decision.problem import DecisionProblem, Rejection, Skip, Traffic
from domain.decision.recommend import recommend
from domain.decision.strategy import StructuredPriorStrategy
from domain.metrics import Metric
from domain.policy import Constraint, Objective, SearchSpace, ServicePolicy

DEFAULTS: dict[str, Any] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "max_tokens": 1024,
    "streaming": False,
    "function_calling": False,
    "vision_enabled": False,
}
"""What a configuration says that neither it nor the present one was given to say: as providers have it."""

Millis = Annotated[int, Field(ge=0, le=MAX_MILLIS)]


class PartialConfig(Message):
    """A configuration of which only the model has to be named. What it lacks is as in the present one."""

    provider: Name | None = None
    model: Name
    model_version: Name | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0, le=1000)
    max_tokens: int | None = Field(default=None, ge=1, le=100_000_000)
    stop_sequences: list[str] | None = None
    streaming: bool | None = None
    function_calling: bool | None = None
    vision_enabled: bool | None = None
    parameters: dict[str, Any] | None = None

    def filled(self, space: SearchSpace, present: LLMConfig | None = None) -> LLMConfig:
        """The whole configuration.

        Raises:
            ValueError: no provider is named, and the search space has not exactly one for the model.
        """
        provider, model = self._whose(space)
        given = {name: value for name, value in dict(self).items() if value is not None}
        names = [*DEFAULTS, "top_k", "stop_sequences"]
        before = {} if present is None else {name: getattr(present, name) for name in names}
        return LLMConfig(**(DEFAULTS | before | given | {"provider": provider, "model": model}))

    def _whose(self, space: SearchSpace) -> tuple[str, str]:
        if self.provider is not None:
            return self.provider, self.model
        named = [m for m in space.models if self.model in (m.model, m.key)]
        if len(named) != 1:
            raise ValueError(f"config of {self.model!r}: which provider's?")
        return named[0].provider, named[0].model


class Seen(Message):
    """What was measured of a configuration; without `age_ms` or `observed_at` it is new."""

    config: PartialConfig
    incumbent: bool = False
    n: int = Field(ge=0)
    metrics: dict[Metric, MetricEstimate] = Field(default_factory=dict)
    tokens: TokenUse | None = None
    observed_at: Millis | None = None
    age_ms: Millis | None = None
    trials: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one_time(self) -> Self:
        if self.observed_at is not None and self.age_ms is not None:
            raise ValueError("observedAt and ageMs say the same: give one of them")
        return self


class TakenBack(Message):
    """A configuration that a rollout's gate took back."""

    config: PartialConfig
    at: Millis | None = None
    reason: str = "taken back"


class Question(Message):
    """A line of input."""

    service: Name = "service"
    objectives: list[Objective] = Field(
        default_factory=lambda: ServicePolicy(service="service").objectives, min_length=1
    )
    constraints: list[Constraint] = Field(default_factory=list)
    search_space: SearchSpace = Field(default_factory=SearchSpace)
    history: list[Seen]
    mode: Literal["weighted", "pareto"] = "weighted"
    now: Millis | None = None
    last_change_at: Millis | None = None
    traffic: list[Traffic] = Field(default_factory=list)
    rejections: list[TakenBack] = Field(default_factory=list)
    unavailable: list[Name] = Field(default_factory=list)
    widening: dict[Metric, Annotated[float, Field(ge=1, le=1000)]] = Field(default_factory=dict)
    recommend: bool = False

    def problem(self) -> DecisionProblem | None:
        """What the decision is asked; None where nothing was observed at all.

        Raises:
            ValueError: no entry, or entries of several configurations, are said to be the incumbent's.
        """
        if not self.history:
            return None
        now = round(time.time() * 1000) if self.now is None else self.now
        incumbent = self._incumbent()
        return DecisionProblem(
            service=self.service,
            incumbent=incumbent,
            objectives=self.objectives,
            constraints=self.constraints,
            search_space=self.search_space,
            mode=self.mode,
            history=[self._observation(seen, incumbent, now) for seen in self.history],
            now=now,
            last_change_at=self.last_change_at,
            rejections=[
                Rejection(
                    config=each.config.filled(self.search_space, incumbent),
                    at=now if each.at is None else each.at,
                    reason=each.reason,
                )
                for each in self.rejections
            ],
            traffic=self.traffic,
            unavailable=self.unavailable,
            widening=self.widening,
            adoptable=True,
        )

    def _incumbent(self) -> LLMConfig:
        present = [seen.config.filled(self.search_space) for seen in self.history if seen.incumbent]
        if not present:
            raise ValueError('history: no entry has "incumbent": true')
        if any(config != present[0] for config in present):
            raise ValueError("history: entries of different configurations are said to be the incumbent's")
        return present[0]

    def _observation(self, seen: Seen, incumbent: LLMConfig, now: int) -> Observation:
        observed_at = seen.observed_at if seen.age_ms is None else max(0, now - seen.age_ms)
        return Observation(
            config=incumbent if seen.incumbent else seen.config.filled(self.search_space, incumbent),
            incumbent=seen.incumbent,
            n=seen.n,
            metrics=seen.metrics,
            tokens=seen.tokens,
            observed_at=observed_at,
            trials=seen.trials,
        )


def answer(line: bytes) -> dict[str, Any]:
    """What to print for a line of input.

    Raises:
        ValueError: the line is no question.
    """
    given = from_json(line, allow_inf_nan=True)
    if not isinstance(given, dict):
        raise ValueError("not a JSON object")
    asked = Question.model_validate(given)
    problem = asked.problem()
    if asked.recommend:
        kept = None if problem is None else recommend(problem)
        return {"recommendedConfig": None if kept is None else kept.to_json()}
    if problem is None:
        return Skip(reasoning="Nothing has been observed of the present configuration yet.").to_json()
    return decide(problem, StructuredPriorStrategy()).to_json()


def suggest(
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="JSON lines; standard input by default.", metavar="FILE")
    ] = "-",  # type: ignore[assignment]  # typer opens it
) -> None:
    """Decide which configuration to try next, or which to keep, one question a line.

    \b
    Reads   {"objectives": [{"metric": "cost", "goal": "minimize", "weight": 0.7}, ...],
             "constraints": [{"type": "hard", "metric": "quality", "min": 80}, ...],
             "searchSpace": {"models": [{"provider": "openai", "model": "gpt-4o-mini"}, ...],
                             "temperature": {"min": 0, "max": 1}, ...},
             "history": [{"config": {"provider": "openai", "model": "gpt-4o"}, "incumbent": true, "n": 3000,
                          "metrics": {"cost.avg": {"mean": 0.01, "se": 0.0002}, ...},
                          "tokens": {"input": 310, "outputQuantiles": [101 values]}}, ...]}
    answers an OptimizationPlan, or {"decision": "skip", "reasoning": "..."}

    With "recommend": true the answer is {"recommendedConfig": {...}}, the observed configuration to promote,
    or null there to stay with the incumbent. Otherwise a plan looks for better than that.

    Of a configuration only the model has to be named: what it lacks is as in the incumbent; what that lacks
    is temperature 1, topP 1, maxTokens 1024, all flags off. A line may also have service, mode (weighted or
    pareto), now, lastChangeAt (ms), traffic [{"windowMs", "requests", "costUsd"}] for budgets, rejections
    [{"config", "at", "reason"}], unavailable (models), widening {metric: factor}, and an entry of the history
    observedAt or ageMs, and trials. Without objectives those of a policy's defaults hold.

    A malformed line is answered with {"error": "..."} and makes the exit code 1 at the end. Blank lines are
    skipped.
    """
    answer_each(file, answer)
