"""What a decision is asked, and what it answers."""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

from pydantic import Field

from domain.base import Message
from domain.config import LLMConfig, Name
from domain.decision.history import Observation
from domain.metrics import Metric
from domain.plan import OptimizationPlan
from domain.policy import Constraint, Objective, SearchSpace


class Traffic(Message):
    """What a service served in the `window_ms` up to now; budgets are projected from it."""

    window_ms: int = Field(ge=1)
    requests: int = Field(ge=0)
    cost_usd: float | None = Field(default=None, ge=0)


class Rejection(Message):
    """A configuration that the health gate took back, at `at` (ms), and why."""

    config: LLMConfig
    at: int
    reason: str


class DecisionProblem(Message):
    """Everything that a decision for one service rests on; times are ms, `now` included.

    `incumbent` is the present configuration. Its observations in the history are known by its settings (see
    `pooling`), so that what was measured of it in an earlier version counts too. `unavailable` names models
    (`provider/model` or `model`) that cannot be called now. `widening` gives, per metric, the factor by which
    past predictions proved too sure: standard deviations are multiplied by it. `adoptable` says that what
    `recommend` names can be had without another canary: a plan then looks for better than that.
    """

    service: str
    incumbent: LLMConfig
    objectives: list[Objective] = Field(min_length=1)
    constraints: list[Constraint] = Field(default_factory=list)
    search_space: SearchSpace = Field(default_factory=SearchSpace)
    mode: Literal["weighted", "pareto"] = "weighted"
    history: list[Observation] = Field(default_factory=list)
    now: int
    last_change_at: int | None = None
    rejections: list[Rejection] = Field(default_factory=list)
    traffic: list[Traffic] = Field(default_factory=list)
    unavailable: list[Name] = Field(default_factory=list)
    widening: dict[Metric, Annotated[float, Field(ge=1, le=1000)]] = Field(default_factory=dict)
    adoptable: bool = False


class Skip(Message):
    """No change is proposed, and why, in plain words with the numbers."""

    decision: Literal["skip"] = "skip"
    reasoning: str


class Strategy(ABC):
    """A way to choose the next configuration.

    A strategy is stateless and deterministic: all that it knows is in the problem, and the same problem gives
    the same answer. For each decision `propose` is called once, after contradictory constraints and a running
    cooldown were ruled out; what it proposes is validated before anyone sees it.
    """

    @abstractmethod
    def propose(self, problem: DecisionProblem) -> OptimizationPlan | Skip:
        """The plan most worth trying in a canary, or why nothing is.

        A plan's configuration lies in the search space and differs from the incumbent, and by its predictions
        it keeps every hard constraint, in the mean or likely enough for a canary.
        """
