"""Starting a workflow for a row that is there already, in the one way that is safe to repeat."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from temporalio.client import Client, WorkflowHandle
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from domain.base import Message
from domain.errors import ServiceUnavailable
from workflows import ids, visibility
from workflows import messages as m
from workflows.delivery import DeliveryWorkflow
from workflows.optimization import OptimizationWorkflow
from workflows.rollout import RolloutWorkflow

RPC_TIMEOUT = timedelta(seconds=5)
# With these the request may have reached the server: whether the workflow started is not known.
_UNKNOWN = (RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.CANCELLED, RPCStatusCode.UNKNOWN)


class StartUnknown(Exception):
    """The answer to a start was lost. The dispatcher finds out."""


async def start_optimization(client: Client, optimization_id: str, *, summary: str) -> None:
    """Start the workflow of a queued run, or find it started.

    Raises:
        ServiceUnavailable: Temporal refused for certain.
        StartUnknown: it may have started.
    """
    arg = m.OptimizationInput(optimization_id=optimization_id)
    await _start(client, OptimizationWorkflow.run, arg, ids.optimization(optimization_id), summary)


async def start_rollout(client: Client, deployment_id: str, *, summary: str) -> None:
    """Start the workflow of a pending rollout, or find it started.

    Raises:
        ServiceUnavailable: Temporal refused for certain.
        StartUnknown: it may have started.
    """
    arg = m.RolloutInput(deployment_id=deployment_id)
    await _start(client, RolloutWorkflow.run, arg, ids.rollout(deployment_id), summary)


async def wake_delivery(client: Client, webhook_id: str, *, summary: str) -> None:
    """Have an endpoint's workflow look for what is to be sent, starting it where it does not run.

    Raises:
        ServiceUnavailable: Temporal refused for certain.
        StartUnknown: it may have been woken.
    """
    try:
        await client.start_workflow(
            DeliveryWorkflow.run,
            m.DeliveryInput(webhook_id=webhook_id),
            id=ids.delivery(webhook_id),
            task_queue=ids.TASK_QUEUE,
            start_signal="wake",
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            static_summary=visibility.brief(summary),
            rpc_timeout=RPC_TIMEOUT,
        )
    except RPCError as error:
        raise _failed_start(error) from error


async def end_delivery(client: Client, webhook_id: str) -> None:
    """Have the workflow of an endpoint that was deleted or disabled find that out, if it runs.

    Raises:
        ServiceUnavailable: Temporal refused for certain.
        StartUnknown: it may have been told.
    """
    handle = client.get_workflow_handle_for(DeliveryWorkflow.run, ids.delivery(webhook_id))
    try:
        await handle.signal(DeliveryWorkflow.wake, rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise _failed_start(error) from error


async def _start(
    client: Client, run: Callable[..., Awaitable[Any]], arg: Message, workflow_id: str, summary: str
) -> None:
    try:
        await client.start_workflow(
            run,
            arg,
            id=workflow_id,
            task_queue=ids.TASK_QUEUE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            static_summary=visibility.brief(summary),
            rpc_timeout=RPC_TIMEOUT,
        )
    except WorkflowAlreadyStartedError:
        return
    except RPCError as error:
        raise _failed_start(error) from error


def _failed_start(error: RPCError) -> ServiceUnavailable | StartUnknown:
    if error.status in _UNKNOWN:
        return StartUnknown(str(error))
    return ServiceUnavailable(f"Temporal cannot be reached: {error.message}", retry_after=2)


def rollout_handle(client: Client, deployment_id: str) -> WorkflowHandle[RolloutWorkflow, m.RolloutOutcome]:
    """The workflow of a rollout, for signals, updates and queries."""
    return client.get_workflow_handle_for(RolloutWorkflow.run, ids.rollout(deployment_id))


def optimization_handle(
    client: Client, optimization_id: str
) -> WorkflowHandle[OptimizationWorkflow, m.OptimizationOutcome]:
    """The workflow of a run, for signals and queries."""
    return client.get_workflow_handle_for(OptimizationWorkflow.run, ids.optimization(optimization_id))


def summary_of_rollout(scope: str, from_version: str, to_version: str, strategy: str) -> str:
    """The line by which the Temporal UI shows a rollout."""
    return f"{scope}: {from_version} → {to_version} ({strategy})"


def summary_of_run(request: dict[str, Any]) -> str:
    """The line by which the Temporal UI shows an optimization."""
    services = request.get("services") or []
    dry = ", dry run" if request.get("dryRun") else ""
    shown = ", ".join(services[:3]) + (" …" if len(services) > 3 else "")
    return f"optimize {shown or 'every service'}{dry}"
