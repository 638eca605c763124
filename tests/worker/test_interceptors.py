"""What goes for every activity, seen from a workflow that calls one."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from temporalio import activity
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.worker import Worker

from domain import errors
from storage.optimizations import OptimizationClosed
from storage.rollouts import LeaseLapsed, RolloutClosed
from tests.worker.one_activity import Call, OneActivity, Text
from worker.interceptors import RESULT_LIMIT, HouseRules


class Act:
    """An activity that does what a test wants, and counts its attempts."""

    def __init__(self) -> None:
        self.attempts = 0
        self.wanted: Callable[[], Awaitable[Text]] | None = None

    @activity.defn(name="act")
    async def act(self) -> Text:
        self.attempts += 1
        assert self.wanted is not None
        return await self.wanted()


class Caller:
    """Calls the activity from a workflow."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self.act = Act()
        self._client = client
        self._task_queue = task_queue

    async def call(self, wanted: Callable[[], Awaitable[Text]], **limits: float) -> Text:
        self.act.attempts, self.act.wanted = 0, wanted
        return await self._client.execute_workflow(
            OneActivity.run,
            Call.model_validate({"activity": "act", **limits}),
            id=f"call-{uuid.uuid4()}",
            task_queue=self._task_queue,
        )

    async def failure(self, wanted: Callable[[], Awaitable[Text]], **limits: float) -> ApplicationError:
        with pytest.raises(WorkflowFailureError) as failed:
            await self.call(wanted, **limits)
        assert isinstance(failed.value.cause, ActivityError)
        cause = failed.value.cause.cause
        assert isinstance(cause, ApplicationError)
        return cause


@pytest_asyncio.fixture
async def caller(temporal: Client) -> AsyncIterator[Caller]:
    made = Caller(temporal, f"house-rules-{uuid.uuid4()}")
    async with Worker(
        temporal,
        task_queue=made._task_queue,
        workflows=[OneActivity],
        activities=[made.act.act],
        interceptors=[HouseRules()],
    ):
        yield made


def raising(error: Exception) -> Callable[[], Awaitable[Text]]:
    async def wanted() -> Text:
        raise error

    return wanted


@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("no such thing", details={"name": "chat"}),
        errors.Conflict("taken"),
        errors.Stopped("emergency stop"),
        errors.ConstraintViolation("too dear"),
        errors.OptimizationFailed("no data"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_no_retry_can_mend_is_not_retried(caller: Caller, error: errors.OptimizerError) -> None:
    failure = await caller.failure(raising(error))
    assert (failure.type, failure.message) == (type(error).__name__, error.message)
    assert list(failure.details) == [error.details]
    assert failure.non_retryable
    assert caller.act.attempts == 1


@pytest.mark.parametrize("error", [errors.DatabaseError("away"), errors.ServiceUnavailable("away")])
async def test_what_a_retry_may_mend_is_retried(caller: Caller, error: errors.OptimizerError) -> None:
    failure = await caller.failure(raising(error))
    assert (failure.type, failure.non_retryable) == (type(error).__name__, False)
    assert caller.act.attempts == 3


@pytest.mark.parametrize("kind", [RolloutClosed, LeaseLapsed, OptimizationClosed])
async def test_whoever_must_let_go_is_told_so(caller: Caller, kind: type[Exception]) -> None:
    failure = await caller.failure(raising(kind("it has ended")))
    assert (failure.type, failure.message) == (kind.__name__, "it has ended")
    assert caller.act.attempts == 1


async def test_what_nobody_foresaw_is_retried(caller: Caller) -> None:
    failure = await caller.failure(raising(ZeroDivisionError("a bug")))
    assert failure.type == "ZeroDivisionError"
    assert caller.act.attempts == 3


@pytest.mark.parametrize("letter", ["x", "é"], ids=["ascii", "two-bytes"])
async def test_a_result_that_temporal_might_refuse_is_refused_at_once(caller: Caller, letter: str) -> None:
    frame = len(Text(text="").model_dump_json())
    fitting = (RESULT_LIMIT - frame) // len(letter.encode())

    def giving(length: int) -> Callable[[], Awaitable[Text]]:
        async def wanted() -> Text:
            return Text(text=letter * length)

        return wanted

    assert len((await caller.call(giving(fitting))).text) == fitting
    failure = await caller.failure(giving(fitting + 1))
    assert failure.type == "ResultTooLarge"
    assert caller.act.attempts == 1


async def test_an_activity_that_is_expected_to_heartbeats_for_as_long_as_it_runs(caller: Caller) -> None:
    async def wanted() -> Text:
        await asyncio.sleep(1.5)
        return Text(text="done")

    assert (await caller.call(wanted, heartbeat_seconds=0.5, attempts=1)).text == "done"
