"""Hurrying workflows along after the control row was changed. Nothing correct depends on it."""

import asyncio
import logging
from datetime import timedelta
from typing import Any, Literal

from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from api.server import Server
from domain.errors import ServiceUnavailable
from storage.overview import OpenWork
from workflows import starts
from workflows.messages import ControlSignal

Order = Literal["pause", "resume", "emergency_stop"]
AT_ONCE = 20
SIGNAL_SECONDS = timedelta(seconds=5)

log = logging.getLogger(__name__)


async def hurry(server: Server, work: OpenWork, order: Order, signal: ControlSignal) -> None:
    """Signal every workflow, as far as Temporal can be reached."""
    try:
        client = await server.temporal.client()
    except ServiceUnavailable:
        log.warning("%s: Temporal cannot be reached; the workflows will find out by themselves", order)
        return
    handles: list[WorkflowHandle[Any, Any]] = [
        *(starts.rollout_handle(client, id_) for id_ in work.rollouts),
        *(starts.optimization_handle(client, id_) for id_ in work.optimizations),
    ]
    room = asyncio.Semaphore(AT_ONCE)

    async def send(handle: WorkflowHandle[Any, Any]) -> None:
        async with room:
            try:
                await handle.signal(order, signal, rpc_timeout=SIGNAL_SECONDS)
            except RPCError as error:
                log.info("%s: %s was not reached: %s", order, handle.id, error)

    await asyncio.gather(*(send(handle) for handle in handles))
