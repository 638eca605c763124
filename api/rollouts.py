"""Starting the workflow of a rollout whose row is committed."""

import logging

from api.server import Server
from domain.errors import ServiceUnavailable
from domain.idempotency import Claim
from storage import control, idempotency, rollouts
from workflows import starts

log = logging.getLogger(__name__)


async def start_rollout(server: Server, deployment_id: str, claim: Claim | None) -> str | None:
    """Start a pending rollout, and give its strategy; None while a pause holds, when the dispatcher will.

    Raises:
        ServiceUnavailable: Temporal refused for certain; the rollout is failed, and `claim` may be used anew.
    """
    async with server.database.transaction() as session:
        if (await control.get(session)).state != "running":
            return None
        row = await rollouts.get(session, deployment_id)
    summary = starts.summary_of_rollout(row.scope, row.from_version, row.to_version, row.strategy)
    try:
        await starts.start_rollout(await server.temporal.client(), deployment_id, summary=summary)
    except starts.StartUnknown as error:
        log.warning("%s: the dispatcher will find out whether it started: %s", deployment_id, error)
    except ServiceUnavailable as error:
        async with server.database.transaction() as session:
            row = await rollouts.lock(session, deployment_id)
            if row.status != "pending":
                return row.strategy
            await rollouts.fail(session, row, error.message)
            await idempotency.forget(session, claim)
        raise
    return row.strategy
