"""`/services/{service}/watch` and `/rules/dry-run`: how rules stand, and what they would have done."""

from typing import Literal

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from api.auth import Reader
from api.body import StrictRoute
from api.server import ServerDep
from domain.base import Message
from domain.brakes import Brakes
from domain.conditions import Rule, Trigger
from domain.errors import InvalidRequest, NotFound
from domain.policy import ServicePolicy, require_distinct
from domain.rules.evaluation import Truth
from domain.rules.firing import Judged
from domain.rules.rehearsal import DryRunRequest, DryRunResponse
from domain.rules.validation import Fault, faults, rolled_back_to
from domain.scope import ServiceName
from storage import brakes, configs, control, dry_runs, firings, rollouts, services, watching
from storage.tables import Firing

router = APIRouter(prefix="/services", tags=["services"], route_class=StrictRoute)


class Standing(Message):
    """How a rule or trigger stands at present, and when it fired last (ms).

    A trigger is known by a digest of its condition. `waits`: what keeps it from firing although it may hold.
    """

    kind: Literal["rule", "trigger"]
    id: str
    truth: Truth
    words: str
    waits: str | None = None
    last_fired_at: int | None = None
    last_words: str | None = None


class WatchResponse(Message):
    """What watches over a service. Rules that are switched off are left out; higher priority comes first.

    `state` is that of the whole system: while it is `paused` alerts alone are raised, once `stopped` nothing
    is done.
    """

    service: str
    state: Literal["running", "paused", "stopped"]
    standing: list[Standing]
    brakes: Brakes


@router.get("/{service}/watch", response_model_exclude_none=True)
async def get_watch(server: ServerDep, _: Reader, service: ServiceName) -> WatchResponse:
    """How each rule and trigger stands, and the circuit breaker and the limit on rollbacks."""
    async with server.database.transaction() as session:
        await services.get(session, service)
        policy = await services.policy_of(session, service, step_seconds=server.step_seconds)
        now = await rollouts.clock(session)
        judged = (await watching.judge(session, {service: policy}, now)).get(service, [])
        fired = await firings.latest(session, service)
        return WatchResponse.model_validate(
            {
                "service": service,
                "state": (await control.get(session)).state,
                "standing": [_standing(found, fired.get(found.key)) for found in judged],
                "brakes": await brakes.of_service(session, policy),
            }
        )


@router.post("/{service}/rules/dry-run", response_model_exclude_none=True)
async def dry_run_rules(
    server: ServerDep, _: Reader, service: ServiceName, body: DryRunRequest
) -> DryRunResponse:
    """When each rule would have fired in the recorded past, and why. Nothing is done.

    Windows end at each look, with a look a minute unless `stepMs` says otherwise; a moment for which too
    little was recorded is told as unknown.
    """
    async with server.database.transaction() as session:
        await services.get(session, service)
        policy = await services.policy_of(session, service, step_seconds=server.step_seconds)
        rules = policy.rules
        if body.rules is not None:
            rules = body.rules
            _require_distinct(rules)
            await require_sound(session, policy.model_copy(update={"rules": rules, "triggers": []}))
        return await dry_runs.dry_run(session, service, rules, body)


def _require_distinct(rules: list[Rule]) -> None:
    try:
        require_distinct("rule", [rule.id for rule in rules])
    except ValueError as error:
        raise InvalidRequest(f"rules: {error}") from error


async def require_sound(session: AsyncSession, policy: ServicePolicy) -> None:
    """Require that the rules and triggers of a policy can be followed.

    Raises:
        InvalidRequest: they cannot; names each field at fault.
    """
    found = faults(policy)
    for field, version in rolled_back_to(policy).items():
        try:
            await configs.get_version(session, version)
        except NotFound as error:
            if all(fault.field != field for fault in found):
                found.append(Fault(field, error.message))
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InvalidRequest(
            f"{found[0].field}: {found[0].reason}{more}",
            details=[{"field": fault.field, "reason": fault.reason} for fault in found],
        )


def _standing(judged: Judged, fired: Firing | None) -> Standing:
    subject: Rule | Trigger = judged.subject
    kind, _, key = judged.key.partition("/")
    return Standing.model_validate(
        {
            "kind": kind,
            "id": subject.id if isinstance(subject, Rule) else key,
            "truth": judged.evaluation.truth,
            "words": judged.evaluation.words,
            "waits": judged.held_back,
            "lastFiredAt": fired.fired_at if fired else None,
            "lastWords": fired.words if fired else None,
        }
    )
