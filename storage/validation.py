"""Whether a configuration keeps to the constraints of the services that it would serve."""

from collections.abc import Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from domain.config import LLMConfig
from domain.decision.constraints import ValidationContext, validate_config
from domain.decision.estimates import token_use
from domain.decision.history import TokenUse
from domain.decision.problem import Traffic
from domain.plan import Prediction, ValidationResult, Violation
from domain.policy import STEP_SECONDS, Constraint, ServicePolicy
from domain.reports import MAX_AHEAD_MS
from domain.scope import Scope
from storage import configs, observations, rollouts, services

DAY_MS = 86_400_000


async def validate(
    session: AsyncSession,
    scope: Scope,
    config: LLMConfig,
    policy: ServicePolicy,
    predictions: Mapping[str, Prediction] | None = None,
    *,
    by_odds: bool = False,
) -> ValidationResult:
    """Judge a configuration for a scope whose service has this policy.

    `predictions`, by metric, are what bounds on metrics are held against where there are any; `by_odds`
    lets them be past a hard one that is likely enough to be kept. A configuration for the global scope is
    held against the policy of every service that inherits it.
    """
    if scope.service is not None:
        return await _judge(session, scope, config, policy, predictions, by_odds=by_odds)
    results: list[tuple[str | None, ValidationResult]] = [
        (None, await _judge(session, scope, config, policy))
    ]
    for heir in await _heirs(session):
        if heir.constraints:
            results.append((heir.service, await _judge(session, Scope(heir.service), config, heir)))
    return _merged(results)


async def _heirs(session: AsyncSession) -> list[ServicePolicy]:
    return [
        services.resolve(row.name, row.policy, step_seconds=STEP_SECONDS)
        for row in await services.inheriting(session)
    ]


async def _judge(
    session: AsyncSession,
    scope: Scope,
    config: LLMConfig,
    policy: ServicePolicy,
    predictions: Mapping[str, Prediction] | None = None,
    *,
    by_odds: bool = False,
) -> ValidationResult:
    active = await configs.active(session, scope)
    return validate_config(
        config,
        constraints=policy.constraints,
        search_space=policy.search_space,
        predictions=predictions,
        context=ValidationContext(
            now=await rollouts.clock(session),
            last_change_at=active.applied_at if active and not active.inherited else None,
            traffic=await _traffic(session, scope, policy.constraints),
            tokens=await _tokens(session, scope, active, policy.constraints),
            by_odds=by_odds,
        ),
    )


async def _traffic(session: AsyncSession, scope: Scope, constraints: Sequence[Constraint]) -> list[Traffic]:
    if scope.service is None or not constraints:
        return []
    windows = {constraint.window_ms for constraint in constraints if constraint.window_ms} | {DAY_MS}
    found = await observations.traffic(session, scope.service, sorted(windows))
    return [Traffic(window_ms=window, requests=n, cost_usd=cost) for window, n, cost in found]


async def _tokens(
    session: AsyncSession,
    scope: Scope,
    active: configs.ActiveConfig | None,
    constraints: Sequence[Constraint],
) -> TokenUse | None:
    """The tokens of the service's requests of late, where a constraint's cost depends on them."""
    costly = any((constraint.metric or "").startswith(("cost", "tokens")) for constraint in constraints)
    if scope.service is None or active is None or not costly:
        return None
    now = await rollouts.clock(session)
    groups = await observations.history(session, scope.service, since=now - DAY_MS, until=now + MAX_AHEAD_MS)
    present = (active.config.provider, active.config.model)
    ours = [group.totals for group in groups if (group.provider, group.model) == present]
    return token_use(max(ours, key=lambda totals: totals.n)) if ours else None


def _merged(results: Sequence[tuple[str | None, ValidationResult]]) -> ValidationResult:
    violations = [
        violation
        if service is None
        else Violation(
            constraint=f"{service}: {violation.constraint}",
            severity=violation.severity,
            message=violation.message,
        )
        for service, result in results
        for violation in result.violations
    ]
    advice = [
        text if service is None else f"{service}: {text}"
        for service, result in results
        for text in result.recommendations or ()
    ]
    return ValidationResult(
        is_valid=all(result.is_valid for _, result in results),
        violations=violations,
        recommendations=advice or None,
    )
