"""A configuration changed by hand: validated, versioned, deployed."""

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession

from api.configs.reader import version_of_etag
from api.configs.schemas import ConfigUpdateRequest, ConfigUpdateResponse
from api.configs.validation import validate
from api.rollouts import start_rollout
from api.server import Server
from domain.errors import ConstraintViolation, InvalidRequest, PreconditionFailed
from domain.plan import ValidationResult
from domain.policy import ServicePolicy, Strategy
from domain.scope import Scope, scope_of
from storage import changes, configs, idempotency, observations, services
from storage.events import alert
from storage.idempotency import Answer, Claim
from storage.keys import Principal

IMMEDIATE_SECONDS = 5.0
_LOOK_SECONDS = 0.05


async def update(
    server: Server,
    principal: Principal,
    request: ConfigUpdateRequest,
    *,
    if_match: str | None,
    claim: Claim | None,
) -> Answer:
    """Carry out an update, or with `validateOnly` say what would come of it.

    Raises:
        ConstraintViolation: the configuration is refused, and an alert raised.
        Conflict, PreconditionFailed, Stopped: as `changes.change_config`.
        ServiceUnavailable: Temporal cannot start the rollout; nothing was changed.
    """
    scope = scope_of(request.service, request.endpoint)
    async with server.database.transaction() as session:
        earlier = await idempotency.earlier_answer(session, claim) if claim else None
        if earlier is not None:
            return earlier
        policy = await services.policy_of(session, scope.service, step_seconds=server.step_seconds)
        result = await validate(session, scope, request.config, policy)
        if request.validate_only:
            return _answer(ConfigUpdateResponse(success=result.is_valid, validation_result=result))
        if not result.is_valid:
            alert(session, str(scope), "medium", "a configuration was refused", result.to_json())
        else:
            change = await _change(session, principal, request, scope, policy, if_match)
            outcome = await changes.change_config(session, change)
            if scope.service is not None:
                await services.note(session, [scope.service])
            answer = _answer(_response(outcome, result))
            if claim is not None:
                await idempotency.keep_answer(session, claim, answer)
    if not result.is_valid:
        errors = [v.message for v in result.violations if v.severity == "error"]
        raise ConstraintViolation("; ".join(errors), details=result.to_json())
    if outcome.deployment_id is not None:
        await start_rollout(server, outcome.deployment_id, claim)
        if change.strategy == "immediate":
            await _until_served(server, scope, outcome.version)
    await server.refresh()
    return answer


async def _change(
    session: AsyncSession,
    principal: Principal,
    request: ConfigUpdateRequest,
    scope: Scope,
    policy: ServicePolicy,
    if_match: str | None,
) -> changes.Change:
    strategy: Strategy = request.deployment_strategy or policy.rollout.strategy
    return changes.Change(
        scope=scope,
        config=request.config,
        strategy=strategy,
        policy=policy,
        reason=request.reason,
        by=principal.name,
        may_mend=principal.may("admin"),
        requests_per_second=await observations.request_rate(
            session, str(scope), step_seconds=policy.rollout.step_seconds
        ),
        expected_version=await _expected(session, scope, if_match),
    )


async def _expected(session: AsyncSession, scope: Scope, if_match: str | None) -> str | None:
    """The version that `If-Match` names: an ETag of a configuration read, or a quoted version."""
    if if_match is None:
        return None
    if "," in if_match:
        raise InvalidRequest("If-Match takes one version")
    if if_match.strip() != "*":
        return version_of_etag(if_match)
    if await configs.active(session, scope) is None:
        raise PreconditionFailed(f"{scope} serves nothing yet")
    return None


def _response(outcome: changes.ChangeOutcome, result: ValidationResult) -> ConfigUpdateResponse:
    if outcome.unchanged:
        advice = (
            f"the configuration is the one that is served already ({outcome.version}); nothing was changed"
        )
        result = result.model_copy(update={"recommendations": [advice, *(result.recommendations or ())]})
    return ConfigUpdateResponse(
        success=True,
        version=outcome.version,
        validation_result=result,
        deployment_id=outcome.deployment_id,
        unchanged=True if outcome.unchanged else None,
    )


def _answer(response: ConfigUpdateResponse) -> Answer:
    return Answer(200, response.to_json())


async def _until_served(server: Server, scope: Scope, version: str) -> None:
    """Wait a little, so that whoever changed a configuration at once finds it changed."""
    try:
        async with asyncio.timeout(IMMEDIATE_SECONDS):
            while True:
                async with server.database.transaction() as session:
                    active = await configs.active(session, scope)
                if active is not None and active.version == version:
                    return
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        return
