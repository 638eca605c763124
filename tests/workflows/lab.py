"""A laboratory for workflows: a real worker on the real stack, time skipping, and hooks into its activities.

A workflow under time skipping runs ahead as soon as it waits. What a test does to it is therefore tied to an
activity: a hook runs in the worker just before the activity does, and while it runs the clock stands still.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import select
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import (
    Client,
    Interceptor,
    WorkflowHandle,
    WorkflowUpdateFailedError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import TimeSkipper, TimeSkippingConfig
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput
from temporalio.worker import Interceptor as WorkerInterceptor

from domain.config import LLMConfig
from domain.deployment import Deployment
from domain.optimization import OptimizationRequest, OptimizationStatus
from domain.policy import ServicePolicy
from domain.scope import parse_scope
from storage import changes, configs, deployments, optimizations, rollouts, services
from storage.database import Database
from storage.tables import Event, Optimization, Rollout, RolloutCheck, RolloutStep
from tests.workflows.traffic import Arm, Traffic
from worker.run import running_worker
from workflows import ids, starts
from workflows import messages as m
from workflows.optimization import OptimizationWorkflow
from workflows.rollout import RolloutWorkflow

Act = Callable[[], Awaitable[Any]]
Hook = Callable[[Any], Awaitable[Any]]
RolloutHandle = WorkflowHandle[RolloutWorkflow, m.RolloutOutcome]
RunHandle = WorkflowHandle[OptimizationWorkflow, m.OptimizationOutcome]

# The server's default is 200 skips, after which it stops skipping without a word.
SKIPS = 100_000

INCUMBENT = LLMConfig(
    provider="openai",
    model="gpt-4o",
    temperature=0.5,
    top_p=1.0,
    max_tokens=100,
    streaming=False,
    function_calling=False,
    vision_enabled=False,
)
CANDIDATE = INCUMBENT.model_copy(update={"model": "gpt-4o-mini"})


def policy(service: str = "chat", **fields: Any) -> ServicePolicy:
    """A service's policy, given as JSON but for its name."""
    return ServicePolicy.model_validate({"service": service, **fields})


def two_steps(**rollout: Any) -> ServicePolicy:
    """Half of the traffic, then all of it: five minutes each, looked at three times each."""
    return policy(rollout={"steps": [50, 100], "stepSeconds": 300, "checkSeconds": 100} | rollout)


class Hooks(Interceptor, WorkerInterceptor):
    """By activity type, what runs in the worker just before it. Given to a client, a worker takes it over.

    A hook that raises an `ApplicationError` means the activity to fail; anything else fails the test.
    """

    def __init__(self) -> None:
        self.before: dict[str, Hook] = {}
        self.errors: list[Exception] = []

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next, self)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, hooks: Hooks) -> None:
        super().__init__(next)
        self._hooks = hooks

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        hook = self._hooks.before.get(activity.info().activity_type)
        try:
            if hook is not None:
                await hook(input.args[0])
        except ApplicationError:
            raise
        except Exception as error:
            self._hooks.errors.append(error)
            raise ApplicationError(f"the test's hook failed: {error!r}", non_retryable=True) from error
        return await super().execute_activity(input)


@dataclass
class Lab:
    """A running worker, and what a test does with a rollout or an optimization.

    `at_look` holds, by a look's number, what is done just before that look.
    """

    database: Database
    client: Client
    hooks: Hooks
    at_look: dict[int, Act] = field(default_factory=dict)
    feed: Hook | None = None
    skipper: TimeSkipper = field(init=False)

    def __post_init__(self) -> None:
        self.skipper = TimeSkipper(self.client, config=TimeSkippingConfig(max_session_skip_count=SKIPS))
        self.hooks.before["check-rollout"] = self._before_look

    async def close(self) -> None:
        """Leave no workflow behind, and tell of a hook that failed."""
        async with self.database.transaction() as session:
            opened = [ids.rollout(row) for row in (await session.execute(select(Rollout.id))).scalars()]
            runs = (await session.execute(select(Optimization.id))).scalars()
            opened += [ids.optimization(row) for row in runs]
        for workflow_id in opened:
            with contextlib.suppress(RPCError):  # It has ended, or never began.
                await self.client.get_workflow_handle(workflow_id).terminate("the test is over")
        if self.hooks.errors:
            raise self.hooks.errors[0]

    async def _before_look(self, arg: m.CheckInput) -> None:
        if self.feed is not None:
            await self.feed(arg)
        act = self.at_look.pop(arg.number, None)
        if act is not None:
            await act()

    @contextlib.asynccontextmanager
    async def another_worker(self, task_queue: str) -> AsyncIterator[None]:
        async with running_worker(
            self.database, self.client, step_seconds=300, housekeeping=False, task_queue=task_queue
        ):
            yield

    # Before a rollout

    async def first_config(self, scope: str = "chat", config: LLMConfig = INCUMBENT) -> str:
        """Give a scope the configuration that it serves at once, having nothing to inherit."""
        service = parse_scope(scope).service
        async with self.database.transaction() as session:
            await services.note(session, [service] if service else [])
            state = await configs.lock_scope(session, scope)
            made = await configs.apply_first(
                session, state, config, by="ada", change_type="manual", reason="first"
            )
            return made.version

    async def open(
        self,
        given: ServicePolicy,
        *,
        config: LLMConfig = CANDIDATE,
        scope: str = "chat",
        rate: float | None = None,
    ) -> str:
        """Open a rollout as an update of the configuration does; gives its id."""
        async with self.database.transaction() as session:
            outcome = await changes.change_config(
                session,
                changes.Change(
                    scope=parse_scope(scope),
                    config=config,
                    strategy=given.rollout.strategy,
                    policy=given,
                    reason="cheaper",
                    by="ada",
                    requests_per_second=rate,
                ),
            )
        assert outcome.deployment_id is not None
        return outcome.deployment_id

    async def traffic(
        self,
        deployment_id: str,
        *,
        canary: Arm | Callable[[int], Arm] | None = None,
        requests: int = 600,
        quality: float | None = 90.0,
    ) -> None:
        """Before each look, send so many requests, split by the share that is served then.

        `canary` says how the canary fares, in each step if need be; as control does if not given.
        """
        row = await self.row(deployment_id)
        sender = Traffic(self.database)
        await sender.prepare()
        control = Arm(row.from_version, INCUMBENT, quality=quality)
        same = Arm(row.to_version, CANDIDATE, quality=quality)

        async def send(arg: m.CheckInput) -> None:
            share = (await self.row(deployment_id)).traffic_percent
            arm = canary(arg.step) if callable(canary) else canary or same
            n = round(requests * share / 100)
            await sender.send((control, requests - n), (arm, n))

        self.feed = send

    # An optimization

    async def service(self, name: str = "chat", **fields: Any) -> None:
        """A service that a cheaper model is allowed for, with a history of what it serves."""
        models = [{"provider": config.provider, "model": config.model} for config in (INCUMBENT, CANDIDATE)]
        given = {"searchSpace": {"models": models}, "rollout": {"steps": [50, 100], "checkSeconds": 100}}
        version = await self.first_config(name)
        async with self.database.transaction() as session:
            await services.put_policy(session, policy(name, **(given | fields)))
        sender = Traffic(self.database, name)
        await sender.prepare()
        await sender.send((Arm(version, INCUMBENT), 500))

    async def open_run(self, *names: str, **request: Any) -> str:
        """Open an optimization of some services as a trigger does; gives its id."""
        wanted = OptimizationRequest.model_validate({"services": list(names), **request})
        async with self.database.transaction() as session:
            run = await optimizations.open_optimization(session, wanted, triggered_by="manual", by="ada")
        return run.id

    async def start_run(self, optimization_id: str, *, skipping: bool = True) -> RunHandle:
        client = self.skipper.client if skipping else self.client
        await starts.start_optimization(client, optimization_id, summary="optimize chat")
        return self.run_handle(optimization_id)

    def run_handle(self, optimization_id: str) -> RunHandle:
        return starts.optimization_handle(self.client, optimization_id)

    async def run_row(self, optimization_id: str) -> Optimization:
        async with self.database.transaction() as session:
            return await optimizations.get(session, optimization_id)

    async def run_status(self, optimization_id: str) -> OptimizationStatus:
        """The run as people see it."""
        async with self.database.transaction() as session:
            return await optimizations.status(session, await optimizations.get(session, optimization_id))

    # A rollout

    async def start(self, deployment_id: str, *, skipping: bool = True) -> RolloutHandle:
        row = await self.row(deployment_id)
        summary = starts.summary_of_rollout(row.scope, row.from_version, row.to_version, row.strategy)
        client = self.skipper.client if skipping else self.client
        await starts.start_rollout(client, deployment_id, summary=summary)
        return self.handle(deployment_id)

    def handle(self, deployment_id: str) -> RolloutHandle:
        return starts.rollout_handle(self.client, deployment_id)

    async def row(self, deployment_id: str) -> Rollout:
        async with self.database.transaction() as session:
            return await rollouts.get(session, deployment_id)

    async def deployment(self, deployment_id: str) -> Deployment:
        """The rollout as people see it."""
        async with self.database.transaction() as session:
            row = await rollouts.get(session, deployment_id)
            return (await deployments.describe(session, [row]))[0]

    async def looks(self, deployment_id: str) -> Sequence[RolloutCheck]:
        query = select(RolloutCheck).where(RolloutCheck.deployment_id == deployment_id)
        async with self.database.transaction() as session:
            return (await session.execute(query.order_by(RolloutCheck.number))).scalars().all()

    async def shares(self, deployment_id: str) -> list[float]:
        """The share that was served in each step."""
        query = select(RolloutStep).where(RolloutStep.deployment_id == deployment_id)
        async with self.database.transaction() as session:
            steps = (await session.execute(query.order_by(RolloutStep.step))).scalars()
            return [step.traffic_percent for step in steps]

    async def step_start(self, deployment_id: str, step: int) -> int:
        """When a step began, by the workflow's clock."""
        async with self.database.transaction() as session:
            return (await session.get_one(RolloutStep, (deployment_id, step))).started_at

    async def execute(self, statement: str) -> None:
        """Change what the tables hold, as time or another hand might have."""
        pool = await self.database.pool()
        await pool.execute(statement)

    async def let_arrivals_age(self, millis: int) -> None:
        """Until what has arrived so far is so old by the database's clock."""
        async with self.database.transaction() as session:
            old_enough = await rollouts.clock(session) + millis + 1

            async def aged() -> bool:
                return await rollouts.clock(session) >= old_enough

            await self.until(aged)

    async def events(self, scope: str = "chat") -> list[Event]:
        query = select(Event).where(Event.scope == scope).order_by(Event.sequence)
        async with self.database.transaction() as session:
            return list((await session.execute(query)).scalars())

    async def event_types(self, scope: str = "chat") -> list[str]:
        return [event.type for event in await self.events(scope)]

    async def served(self, scope: str = "chat") -> str:
        """The version that a scope serves outside a canary."""
        async with self.database.transaction() as session:
            present = await configs.active(session, parse_scope(scope))
        assert present is not None
        return present.version

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(30):
            while True:
                if await condition():
                    return
                await asyncio.sleep(0.01)

    async def until_row(self, deployment_id: str, **wanted: Any) -> Rollout:
        """The rollout's row, once it has certain values."""

        async def has_them() -> bool:
            row = await self.row(deployment_id)
            return all(getattr(row, name) == value for name, value in wanted.items())

        await self.until(has_them)
        return await self.row(deployment_id)

    async def run_ids(self, handle: WorkflowHandle[Any, Any]) -> list[str]:
        """The runs of a workflow that is continued as new, from the first to the present one."""
        run_id: str | None = (await handle.describe()).run_id
        found: list[str] = []
        while run_id:
            found.insert(0, run_id)
            started = (await self._history(handle, run_id))[0].workflow_execution_started_event_attributes
            run_id = started.continued_execution_run_id
        return found

    async def runs(self, handle: WorkflowHandle[Any, Any]) -> list[list[HistoryEvent]]:
        """The history of each run of a workflow, from the first to the present one."""
        return [await self._history(handle, run_id) for run_id in await self.run_ids(handle)]

    async def _history(self, handle: WorkflowHandle[Any, Any], run_id: str) -> list[HistoryEvent]:
        one = self.client.get_workflow_handle(handle.id, run_id=run_id)
        return list((await one.fetch_history()).events)

    async def until_event(self, handle: WorkflowHandle[Any, Any], kind: "EventType.ValueType") -> None:
        """Until the workflow has seen an event: until it has dealt with a task that came after it."""
        async with asyncio.timeout(30):
            seen = False
            async for event in handle.fetch_history_events(wait_new_event=True):
                seen = seen or event.event_type == kind
                if seen and event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                    return


async def refusal(operation: Awaitable[Any]) -> str:
    """With which type and message an update is refused."""
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await operation
    cause = refused.value.cause
    assert isinstance(cause, ApplicationError)
    return f"{cause.type}: {cause.message}"
