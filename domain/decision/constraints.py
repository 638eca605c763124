"""The constraint validator: what a configuration breaches, and what cannot be known of it yet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.config import LLMConfig
from domain.decision import wording
from domain.decision.bounds import (
    DEFAULT_WINDOW_MS,
    LEAST_ODDS_OF_A_GUESS,
    PER_REQUEST,
    TRAFFIC_METRICS,
    Bound,
    metric_bound,
    odds,
    soft_weight,
)
from domain.decision.contradictions import contradictions
from domain.decision.history import TokenUse
from domain.decision.problem import Traffic
from domain.decision.providers import max_temperature, takes_top_k
from domain.decision.responses import RESPONSES
from domain.decision.wording import constraint_name, constraint_text
from domain.plan import Prediction, ValidationResult, Violation
from domain.policy import CandidateModel, Constraint, SearchSpace
from domain.pricing import output_limit, token_prices

_ROUNDING = 1e-6
"""By how much odds may differ that were taken of an interval instead of a spread."""


@dataclass(frozen=True, slots=True)
class ValidationContext:
    """What is known when a configuration is judged.

    `now` and `last_change_at` in ms; `traffic` for budgets; `tokens` that the service's requests use, from
    which cost follows by the price list where no prediction was made; `by_odds` says that a predicted mean
    may be past a hard bound which is likely enough to be kept.
    """

    now: int
    last_change_at: int | None = None
    traffic: Sequence[Traffic] = ()
    tokens: TokenUse | None = None
    by_odds: bool = False


def validate_config(
    config: LLMConfig,
    *,
    constraints: Sequence[Constraint],
    search_space: SearchSpace,
    predictions: Mapping[str, Prediction] | None,
    context: ValidationContext,
) -> ValidationResult:
    """Judges a configuration, a plan's or a person's, against every constraint.

    A hard constraint breached is an error, a soft one a warning with its weight. A bound on a metric is held
    against the predicted mean, or by the odds of keeping it, which the canary is to show under a gate with
    the same bound. Without a prediction (a change by hand) cost is worked out from prices and observed
    tokens; what cannot be checked before the rollout is named in `recommendations`.
    """
    judgement = _Judgement(config, search_space, dict(predictions or {}), context)
    for text in contradictions(constraints):
        judgement.violations.append(Violation(constraint="contradiction", severity="error", message=text))
    judgement.check_limits()
    for constraint in constraints:
        judgement.check(constraint)
    violations = judgement.violations
    return ValidationResult(
        is_valid=all(violation.severity != "error" for violation in violations),
        violations=violations,
        recommendations=judgement.recommendations or None,
    )


def allows_model(constraint: Constraint, config_provider: str, config_model: str) -> bool:
    """Whether a constraint lets a model be used; models are named `provider/model` or `model`."""
    if constraint.models is None:
        return True
    return config_model in constraint.models or f"{config_provider}/{config_model}" in constraint.models


def cooldown_left(constraint: Constraint, now: int, last_change_at: int | None) -> int:
    """Milliseconds until a change is allowed again; 0 when it is. A clock that went back ends no cooldown."""
    if constraint.cooldown_ms is None or last_change_at is None:
        return 0
    return max(0, constraint.cooldown_ms - max(0, now - last_change_at))


def candidate_entry(search_space: SearchSpace, config: LLMConfig) -> CandidateModel | None:
    """What the policy says of a configuration's model, if anything."""
    return next((entry for entry in search_space.models if entry.key == config.model_key), None)


class _Judgement:
    """One configuration being judged."""

    def __init__(
        self,
        config: LLMConfig,
        search_space: SearchSpace,
        predictions: dict[str, Prediction],
        context: ValidationContext,
    ) -> None:
        self.config = config
        self.entry = candidate_entry(search_space, config)
        self.predictions = predictions
        self.context = context
        self.violations: list[Violation] = []
        self.recommendations: list[str] = []

    def check_limits(self) -> None:
        """What the model and its provider take, whatever the policy says."""
        limit = output_limit(self.config.provider, self.config.model, self.entry)
        if limit is not None and self.config.max_tokens > limit:
            text = (
                f"maxTokens {self.config.max_tokens} is above the {limit} that {self.config.model_key} allows"
            )
            self.violations.append(Violation(constraint="maxTokens", severity="error", message=text))
        hottest = max_temperature(self.config.provider)
        if self.config.temperature > hottest:
            text = f"{self.config.provider} takes temperatures up to {hottest:g}; it would refuse more"
            self.violations.append(Violation(constraint="temperature", severity="warning", message=text))
        if self.config.top_k is not None and not takes_top_k(self.config.provider):
            text = f"{self.config.provider} takes no topK; it would be ignored or refused"
            self.violations.append(Violation(constraint="topK", severity="warning", message=text))

    def check(self, constraint: Constraint) -> None:
        if not allows_model(constraint, self.config.provider, self.config.model):
            allowed = ", ".join(constraint.models or [])
            self._breach(constraint, f"{self.config.model_key} is not among the allowed models: {allowed}")
        left = cooldown_left(constraint, self.context.now, self.context.last_change_at)
        if left:
            whole = wording.duration(constraint.cooldown_ms or 0)
            self._breach(
                constraint, f"the cooldown of {whole} since the last change has {wording.duration(left)} left"
            )
        if constraint.metric is not None:
            self._check_metric(constraint)

    def _check_metric(self, constraint: Constraint) -> None:
        metric = constraint.metric or ""
        if metric in TRAFFIC_METRICS:
            self._unchecked(constraint, "no configuration changes the number of requests")
            return
        bound = metric_bound(constraint, self.context.traffic)
        if bound is None:
            self._unchecked(constraint, "no traffic has been observed from which to project it")
            return
        estimate = self.predictions.get(bound.metric) or self._derived(bound.metric)
        if estimate is None:
            self._unchecked(constraint, f"{bound.metric} of {self.config.model_key} is not known")
            return
        self._check_bound(bound, estimate)
        self._check_spent(bound)

    def _check_bound(self, bound: Bound, estimate: Prediction) -> None:
        if not bound.keeps(estimate.mean):
            text = _breach_text(bound, estimate)
            if not self._may_hold(bound, estimate):
                self._breach(bound.constraint, text)
                return
            self.recommendations.append(
                f"{constraint_name(bound.constraint)}: {text}, as far as can be told; "
                f"{100 * odds(bound, estimate):.0f} % likely to be kept"
            )
        elif bound.hard and not (bound.keeps(estimate.low) and bound.keeps(estimate.high)):
            interval = (
                f"{wording.value(bound.metric, estimate.low)} to {wording.value(bound.metric, estimate.high)}"
            )
            self.recommendations.append(
                f"{constraint_name(bound.constraint)}: {bound.metric} is likely within {interval}, which "
                f"crosses the bound; watch it during the rollout"
            )

    def _may_hold(self, bound: Bound, estimate: Prediction) -> bool:
        by_odds = self.context.by_odds and bound.hard and bound.metric in RESPONSES
        return by_odds and odds(bound, estimate) >= LEAST_ODDS_OF_A_GUESS - _ROUNDING

    def _check_spent(self, bound: Bound) -> None:
        """A budget that is used up already is no fault of the configuration, but is said."""
        limit = bound.constraint.max
        window = bound.constraint.window_ms or DEFAULT_WINDOW_MS
        spent = next((t.cost_usd for t in self.context.traffic if t.window_ms == window), None)
        if (
            bound.constraint.metric == "cost.total"
            and limit is not None
            and spent is not None
            and spent > limit
        ):
            self.recommendations.append(
                f"{constraint_name(bound.constraint)}: {wording.value('cost', spent)} were spent in the last "
                f"{wording.duration(window)}, above the budget of {wording.value('cost', limit)}"
            )

    def _derived(self, metric: str) -> Prediction | None:
        """What follows from observed tokens alone."""
        tokens = self.context.tokens
        if tokens is None:
            return None
        output = tokens.output_mean(self.config.max_tokens)
        if metric == "cost.avg":
            prices = token_prices(
                self.config.provider, self.config.model, self.entry, self.context.now, tokens.input
            )
            return None if prices is None else _exact(prices.of(tokens.input, output))
        known = {"tokens.input": tokens.input, "tokens.output": output, "tokens.total": tokens.input + output}
        return _exact(known[metric]) if metric in known else None

    def _breach(self, constraint: Constraint, message: str) -> None:
        hard = constraint.type == "hard"
        text = message if hard else f"{message} (soft, weight {soft_weight(constraint)})"
        self.violations.append(
            Violation(
                constraint=constraint_name(constraint), severity="error" if hard else "warning", message=text
            )
        )

    def _unchecked(self, constraint: Constraint, why: str) -> None:
        text = constraint_text(constraint)
        self.recommendations.append(f"{constraint_name(constraint)}: {text} could not be checked: {why}")


def _breach_text(bound: Bound, estimate: Prediction) -> str:
    below = bound.low is not None and estimate.mean < bound.low
    limit = bound.constraint.min if below else bound.constraint.max
    metric = bound.constraint.metric or bound.metric
    side = f"{'below the floor' if below else 'above the ceiling'} of {wording.value(metric, limit or 0.0)}"
    if metric in PER_REQUEST and bound.requests is not None:
        window = wording.duration(bound.constraint.window_ms or DEFAULT_WINDOW_MS)
        total = wording.value(metric, estimate.mean * bound.requests)
        each = f"{bound.requests:,.0f} requests at {wording.value(bound.metric, estimate.mean)}"
        return f"{metric} is projected at {total} over {window} ({each}), {side}"
    spread = f" ({wording.value(metric, estimate.low)} to {wording.value(metric, estimate.high)})"
    known = spread if estimate.low < estimate.high else ""
    return f"{metric} is predicted at {wording.value(metric, estimate.mean)}{known}, {side}"


def _exact(value: float) -> Prediction:
    return Prediction(mean=value, low=value, high=value, samples=0)
