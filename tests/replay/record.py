"""Records the histories that the replay tests play: `python -m tests.replay.record [NAME ...]`.

To be run where a change of the workflows is meant to break those that are under way; what is told apart by
`workflow.patched` needs no new recording, and is proved by the old ones. Each recording is a run on a real
stack; a workflow that was continued as new has a file per run.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError

from activities import checks
from infra.embedded import EmbeddedStack
from storage import control
from storage.database import Database
from storage.migrations import upgrade
from tests.activities.receiver import Answer, receiving
from tests.storage import hooks
from tests.workflows.lab import CANDIDATE, Hooks, Lab, policy, two_steps
from tests.workflows.traffic import Arm
from worker.run import running_worker
from workflows import ids, starts
from workflows import messages as m
from workflows.optimization import OptimizationWorkflow
from workflows.rollout import CHECKS_PER_RUN, RolloutWorkflow

HISTORIES = Path(__file__).parent / "histories"

Recording = Callable[[Lab], Awaitable[WorkflowHandle[Any, Any]]]


async def canary(lab: Lab) -> WorkflowHandle[Any, Any]:
    """Four steps of five minutes, all of them healthy."""
    await lab.first_config()
    deployment_id = await lab.open(policy())
    await lab.traffic(deployment_id)
    handle = await lab.start(deployment_id)
    await handle.result()
    return handle


async def rollback(lab: Lab) -> WorkflowHandle[Any, Any]:
    """Harm shows in the second step."""
    await lab.first_config()
    deployment_id = await lab.open(policy())
    version = (await lab.row(deployment_id)).to_version
    await lab.traffic(
        deployment_id, canary=lambda step: Arm(version, CANDIDATE, error_rate=0.3 if step else 0.01)
    )
    handle = await lab.start(deployment_id)
    await handle.result()
    return handle


async def acts(lab: Lab) -> WorkflowHandle[Any, Any]:
    """Approved, paused by itself and with all, extended, held into a second run, promoted, aborted."""
    await lab.first_config()
    deployment_id = await lab.open(two_steps(approval="before-start", maxExtensions=1))
    handle = lab.handle(deployment_id)
    approving = asyncio.create_task(approve_when_asked(lab, deployment_id))
    lab.at_look = {
        1: lambda: handle.signal(RolloutWorkflow.pause),
        2: lambda: handle.signal(RolloutWorkflow.pause, m.ControlSignal(revision=5)),
        3: lambda: handle.signal(RolloutWorkflow.resume, m.ControlSignal(revision=6)),
        4: lambda: handle.signal(RolloutWorkflow.resume),
        CHECKS_PER_RUN + 5: lambda: handle.execute_update(RolloutWorkflow.promote, m.Act(by="ada")),
        CHECKS_PER_RUN + 7: lambda: handle.execute_update(
            RolloutWorkflow.abort, m.Act(by="ada", reason="enough")
        ),
    }
    await lab.start(deployment_id, skipping=False)
    await approving
    await lab.skipper.fast_forward(handle)
    await handle.result()
    return handle


async def approve_when_asked(lab: Lab, deployment_id: str) -> None:
    await lab.until_row(deployment_id, status="awaiting_approval")
    await lab.handle(deployment_id).execute_update(RolloutWorkflow.approve)


async def cancellation(lab: Lab) -> WorkflowHandle[Any, Any]:
    """Cancelled while its compensation runs, which fails at first."""
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = lab.handle(deployment_id)

    async def fail_until_cancelled(arg: m.RollBackInput) -> None:
        lab.hooks.before.pop("roll-back")
        await handle.cancel()
        await lab.until_event(handle, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
        raise ApplicationError("the database is away")

    lab.hooks.before["roll-back"] = fail_until_cancelled
    lab.at_look[2] = lambda: handle.signal(RolloutWorkflow.emergency_stop)
    await lab.start(deployment_id)
    await handle.result()
    return handle


async def optimization(lab: Lab) -> WorkflowHandle[Any, Any]:
    """Two services, paused before analyze; one fails, the other's plan is rolled out."""
    await lab.service("bad")
    await lab.service("chat")
    optimization_id = await lab.open_run("chat", "bad")
    handle = lab.run_handle(optimization_id)
    phases: list[str] = []

    async def resume_in_time(arg: m.PhaseInput) -> None:
        phases.append(arg.phase)
        if arg.phase == "analyze":
            async with lab.database.transaction() as session:
                change = control.resume(session, by="ada") if phases.count("analyze") == 3 else None
                row = await (change or control.pause(session, reason=None, by="ada"))
            await handle.signal(OptimizationWorkflow.pause, m.ControlSignal(revision=row.revision))

    async def fail(arg: m.ServiceInput) -> None:
        if arg.service == "bad":
            raise ApplicationError("broken", non_retryable=True)

    lab.hooks.before["begin-phase"] = resume_in_time
    lab.hooks.before["decide"] = fail
    await lab.start_run(optimization_id)
    await handle.result()
    return handle


async def failure(lab: Lab) -> WorkflowHandle[Any, Any]:
    """A run that is cancelled in the middle of a phase."""
    await lab.service("chat")
    handle = lab.run_handle(await lab.open_run("chat"))

    async def cancel(arg: m.ServiceInput) -> None:
        await handle.cancel()
        await lab.until_event(handle, EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED)
        raise ApplicationError("cancelled")

    lab.hooks.before["analyze"] = cancel
    await lab.start_run(handle.id.removeprefix("optimization/"))
    try:
        await handle.result()
    except WorkflowFailureError:
        return handle
    raise RuntimeError("the run was not cancelled")


async def delivery(lab: Lab) -> WorkflowHandle[Any, Any]:
    """Tried again after failures, woken by what is published, told that the endpoint is gone."""
    answers = iter([500, 500, 200, 200, 410])
    async with receiving() as receiver:
        receiver.decide = lambda request: Answer(next(answers))
        webhook = await hooks.open_webhook(lab.database, receiver.url)
        handle = lab.client.get_workflow_handle(ids.delivery(webhook.id))

        def has(received: int) -> bool:
            return len(receiver.received) == received

        for received in (3, 4, 5):
            await hooks.happen(lab.database, "chat")
            await starts.wake_delivery(lab.client, webhook.id, summary="webhook 127.0.0.1")
            await receiver.until(partial(has, received))
        await handle.result()
    return handle


RECORDINGS: dict[str, Recording] = {
    "rollout-canary": canary,
    "rollout-rollback": rollback,
    "rollout-acts": acts,
    "rollout-cancellation": cancellation,
    "optimization": optimization,
    "optimization-cancelled": failure,
    "delivery": delivery,
}


@asynccontextmanager
async def laboratory() -> AsyncIterator[Lab]:
    """A fresh stack with a worker, under names that tell nothing of the machine."""
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedStack(Path(folder), time_skipping=True, temporal_ui=False) as stack:
            await asyncio.to_thread(upgrade, stack.database_url)
            database, hooks = Database(stack.database_url), Hooks()
            client = await Client.connect(
                stack.temporal_address,
                data_converter=pydantic_data_converter,
                identity="recorder",
                interceptors=[hooks],
            )
            async with running_worker(
                database, client, step_seconds=300, housekeeping=False, webhooks_allow_private=True
            ):
                yield Lab(database, client, hooks)
            await database.close()


async def record(name: str) -> None:
    async with laboratory() as lab:
        handle = await RECORDINGS[name](lab)
        for old in HISTORIES.glob(f"{name}.*.json"):
            old.unlink()
        for number, run_id in enumerate(await lab.run_ids(handle), start=1):
            one = lab.client.get_workflow_handle(handle.id, run_id=run_id)
            path = HISTORIES / f"{name}.{number}.json"
            history = json.loads((await one.fetch_history()).to_json())
            text = json.dumps(without_traces(history), ensure_ascii=False, separators=(",", ":"))
            path.write_text(f"{text}\n", encoding="utf-8")
        await lab.close()


def without_traces(value: Any) -> Any:
    """The same JSON without what tells where on which machine it was recorded."""
    if isinstance(value, dict):
        return {key: without_traces(part) for key, part in value.items() if key != "stackTrace"}
    return [without_traces(part) for part in value] if isinstance(value, list) else value


async def main(names: list[str]) -> None:
    # Traffic is committed before the look that is to see it.
    checks.ARRIVAL_MARGIN_MS = 0
    for name in names or RECORDINGS:
        await record(name)
        sys.stdout.write(f"recorded {name}\n")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
