"""A configuration changed by hand: validated, versioned, deployed."""

import asyncio
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from api.commands import Command
from api.configs.rendering import version_of_etag
from api.configs.schemas import ConfigRollbackRequest, ConfigUpdateRequest, ConfigUpdateResponse
from api.rollouts import start_rollout
from api.server import Server
from domain.config import LLMConfig
from domain.deployment import OPEN_STATUSES
from domain.errors import ConstraintViolation, DeploymentFailed, InvalidRequest, PreconditionFailed
from domain.idempotency import Answer
from domain.plan import ValidationResult
from domain.policy import ServicePolicy, Strategy
from domain.scope import Scope, parse_scope, scope_of
from storage import audit, changes, configs, idempotency, observations, rollouts, services
from storage.events import alert
from storage.tables import ConfigVersion
from storage.validation import validate

IMMEDIATE_SECONDS = 5.0
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a scope is to serve, why and how. `derived_from` is the version that it goes back to, if any."""

    scope: Scope
    config: LLMConfig
    reason: str
    strategy: Strategy | None
    validate_only: bool
    derived_from: str | None = None


def wanted_by_update(request: ConfigUpdateRequest) -> Wanted:
    """What an update asks for.

    Raises:
        InvalidRequest: a name that is not allowed, or an endpoint without a service.
    """
    return Wanted(
        scope_of(request.service, request.endpoint),
        request.config,
        request.reason,
        request.deployment_strategy,
        request.validate_only,
    )


def wanted_by_rollback(request: ConfigRollbackRequest, version: ConfigVersion) -> Wanted:
    """What going back to a version asks for."""
    return Wanted(
        parse_scope(version.scope),
        LLMConfig.model_validate(version.config),
        request.reason,
        request.deployment_strategy,
        request.validate_only,
        derived_from=version.version,
    )


@dataclass(frozen=True, slots=True)
class Update:
    """One request for a change, and who asks for it."""

    server: Server
    command: Command
    wanted: Wanted
    if_match: str | None

    async def carry_out(self) -> Answer:
        """Make the change, or with `validateOnly` say what would come of it.

        Raises:
            ConstraintViolation: the configuration is refused, and an alert raised.
            Conflict, PreconditionFailed, Stopped: as `changes.change_config`.
            ServiceUnavailable: Temporal cannot start the rollout; what is served stays as it was.
            DeploymentFailed: an immediate change failed before it was served.
        """
        claim, scope = self.command.claim, self.wanted.scope
        response: ConfigUpdateResponse | None = None
        outcome: changes.ChangeOutcome | None = None
        async with self.server.database.transaction() as session:
            earlier = await idempotency.earlier_answer(session, claim)
            if earlier is not None:
                return earlier
            policy = await services.policy_of(session, scope.service, step_seconds=self.server.step_seconds)
            result = await validate(session, scope, self.wanted.config, policy)
            if self.wanted.validate_only:
                response = ConfigUpdateResponse(success=result.is_valid, validation_result=result)
            elif result.is_valid:
                outcome = await self._commit(session, policy)
                response = _response(outcome, result)
            else:
                self._refuse(session, result)
            if response is not None:
                await idempotency.keep_answer(session, claim, _answer(response))
        if response is None:
            raise _violation(result)
        if outcome is not None:
            await self._deploy(outcome)
        return _answer(response)

    async def _commit(self, session: AsyncSession, policy: ServicePolicy) -> changes.ChangeOutcome:
        scope, actor = self.wanted.scope, self.command.actor
        step_seconds = policy.rollout.step_seconds
        rate = await observations.request_rate(session, str(scope), step_seconds=step_seconds)
        outcome = await changes.change_config(
            session,
            changes.Change(
                scope=scope,
                config=self.wanted.config,
                strategy=self.wanted.strategy or policy.rollout.strategy,
                policy=policy,
                reason=self.wanted.reason,
                by=actor.name,
                may_mend=actor.principal.may("admin"),
                requests_per_second=rate,
                expected_version=await _expected(session, scope, self.if_match),
                derived_from=self.wanted.derived_from,
            ),
        )
        if scope.service is not None:
            await services.note(session, [scope.service])
        if not outcome.unchanged:
            self._record(session, outcome)
        return outcome

    def _record(self, session: AsyncSession, outcome: changes.ChangeOutcome) -> None:
        back_to = self.wanted.derived_from
        details = {
            "version": outcome.version,
            "deploymentId": outcome.deployment_id,
            "derivedFrom": back_to,
            "reason": self.wanted.reason,
        }
        action: audit.Action = "config.update" if back_to is None else "config.rollback"
        audit.record(session, self.command.actor, action, str(self.wanted.scope), details)

    def _refuse(self, session: AsyncSession, result: ValidationResult) -> None:
        """Raise the alert, and keep whose it was: it goes out to people."""
        scope = str(self.wanted.scope)
        alert(session, scope, "medium", "a configuration was refused", result.to_json())
        constraints = [found.constraint for found in result.violations if found.severity == "error"]
        details = {"constraints": constraints, "reason": self.wanted.reason}
        audit.record(session, self.command.actor, "config.refused", scope, details)

    async def _deploy(self, outcome: changes.ChangeOutcome) -> None:
        if outcome.deployment_id is not None:
            strategy = await start_rollout(self.server, outcome.deployment_id, self.command.claim)
            if strategy == "immediate":
                await _until_served(self.server, outcome.deployment_id)
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


async def _until_served(server: Server, deployment_id: str) -> None:
    """Wait a little, so that whoever changed a configuration at once finds it changed.

    Raises:
        DeploymentFailed: it never came to be served.
    """
    try:
        async with asyncio.timeout(IMMEDIATE_SECONDS):
            while True:
                async with server.database.transaction() as session:
                    row = await rollouts.get(session, deployment_id)
                if row.status == "failed":
                    raise DeploymentFailed(
                        f"{row.to_version} is not served: {row.error}", details={"deploymentId": row.id}
                    )
                if row.step >= 0 or row.status not in OPEN_STATUSES:
                    return
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        return
