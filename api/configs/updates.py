"""A configuration changed by hand: validated, versioned, deployed."""

import asyncio
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from api.configs.reader import version_of_etag
from api.configs.schemas import ConfigUpdateRequest, ConfigUpdateResponse
from api.rollouts import start_rollout
from api.server import Server
from domain.errors import ConstraintViolation, InvalidRequest, PreconditionFailed
from domain.plan import ValidationResult
from domain.policy import ServicePolicy
from domain.scope import Scope, scope_of
from storage import changes, configs, idempotency, observations, services
from storage.events import alert
from storage.idempotency import Answer, Claim
from storage.keys import Principal
from storage.validation import validate

IMMEDIATE_SECONDS = 5.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Update:
    """One request for a change, and who asks for it."""

    server: Server
    principal: Principal
    request: ConfigUpdateRequest
    if_match: str | None
    claim: Claim | None

    async def carry_out(self) -> Answer:
        """Make the change, or with `validateOnly` say what would come of it.

        Raises:
            ConstraintViolation: the configuration is refused, and an alert raised.
            Conflict, PreconditionFailed, Stopped: as `changes.change_config`.
            ServiceUnavailable: Temporal cannot start the rollout; what is served stays as it was.
        """
        scope = scope_of(self.request.service, self.request.endpoint)
        outcome = None
        async with self.server.database.transaction() as session:
            earlier = await idempotency.earlier_answer(session, self.claim) if self.claim else None
            if earlier is not None:
                return earlier
            policy = await services.policy_of(session, scope.service, step_seconds=self.server.step_seconds)
            result = await validate(session, scope, self.request.config, policy)
            if self.request.validate_only:
                return _answer(ConfigUpdateResponse(success=result.is_valid, validation_result=result))
            if result.is_valid:
                outcome = await self._commit(session, scope, policy)
                answer = _answer(_response(outcome, result))
                if self.claim is not None:
                    await idempotency.keep_answer(session, self.claim, answer)
            else:
                alert(session, str(scope), "medium", "a configuration was refused", result.to_json())
        if outcome is None:
            raise _violation(result)
        await self._deploy(scope, outcome)
        return answer

    async def _commit(
        self, session: AsyncSession, scope: Scope, policy: ServicePolicy
    ) -> changes.ChangeOutcome:
        step_seconds = policy.rollout.step_seconds
        rate = await observations.request_rate(session, str(scope), step_seconds=step_seconds)
        outcome = await changes.change_config(
            session,
            changes.Change(
                scope=scope,
                config=self.request.config,
                strategy=self.request.deployment_strategy or policy.rollout.strategy,
                policy=policy,
                reason=self.request.reason,
                by=self.principal.name,
                may_mend=self.principal.may("admin"),
                requests_per_second=rate,
                expected_version=await _expected(session, scope, self.if_match),
            ),
        )
        if scope.service is not None:
            await services.note(session, [scope.service])
        return outcome

    async def _deploy(self, scope: Scope, outcome: changes.ChangeOutcome) -> None:
        if outcome.deployment_id is not None:
            strategy = await start_rollout(self.server, outcome.deployment_id, self.claim)
            if strategy == "immediate":
                await _until_served(self.server, scope, outcome.version)
        await self.server.refresh()


def _violation(result: ValidationResult) -> ConstraintViolation:
    return ConstraintViolation(result.refusal, details=result.to_json())


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
