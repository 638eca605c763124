"""Starting the workflow of a rollout whose row is committed."""

from api.server import Server
from domain.errors import ServiceUnavailable
from storage import control, idempotency, rollouts
from storage.idempotency import Claim
from workflows import starts


async def start_rollout(server: Server, deployment_id: str, claim: Claim | None) -> None:
    """Start a pending rollout, unless a pause holds: the dispatcher does it after the pause.

    Raises:
        ServiceUnavailable: Temporal refused for certain; the rollout is failed, and `claim` may be used anew.
    """
    async with server.database.transaction() as session:
        if (await control.get(session)).state != "running":
            return
        row = await rollouts.get(session, deployment_id)
    summary = starts.summary_of_rollout(row.scope, row.from_version, row.to_version, row.strategy)
    try:
        await starts.start_rollout(await server.temporal.client(), deployment_id, summary=summary)
    except starts.StartUnknown:
        return
    except ServiceUnavailable as error:
        async with server.database.transaction() as session:
            row = await rollouts.lock(session, deployment_id)
            if row.status != "pending":
                return
            await rollouts.fail(session, row, error.message)
            if claim is not None:
                await idempotency.forget(session, claim)
        raise
