"""Requests that change something: who makes them, and the claim of those that may come twice."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request, Security

from api.auth import Requires
from api.idempotency import IdempotencyKey, claim_of
from domain.idempotency import Claim
from storage.audit import Actor
from storage.keys import Principal


@dataclass(frozen=True, slots=True)
class Command:
    """A POST: who makes it, and under which `Idempotency-Key`, if any."""

    actor: Actor
    claim: Claim | None


def _actor_with(requires: Requires) -> Callable[..., Awaitable[Actor]]:
    async def actor(
        request: Request, principal: Annotated[Principal, Security(requires, scopes=[requires.scope])]
    ) -> Actor:
        return Actor(principal, request.state.request_id)

    return actor


def _command_with(requires: Requires) -> Callable[..., Awaitable[Command]]:
    async def command(
        request: Request,
        actor: Annotated[Actor, Depends(_actor_with(requires))],
        idempotency_key: IdempotencyKey = None,
    ) -> Command:
        return Command(actor, await claim_of(request, actor.principal, idempotency_key))

    return command


IngestCommand = Annotated[Command, Depends(_command_with(Requires("ingest")))]
WriteCommand = Annotated[Command, Depends(_command_with(Requires("write")))]
AdminCommand = Annotated[Command, Depends(_command_with(Requires("admin")))]
EmergencyCommand = Annotated[Command, Depends(_command_with(Requires("admin", limited=False)))]
WriteActor = Annotated[Actor, Depends(_actor_with(Requires("write")))]
AdminActor = Annotated[Actor, Depends(_actor_with(Requires("admin")))]
