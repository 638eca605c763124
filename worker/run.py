"""A worker: everything that it runs, from start to drain."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from importlib import metadata

from temporalio.client import Client
from temporalio.common import WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import Worker, WorkerDeploymentConfig

from activities.analysis import AnalysisActivities
from activities.delivery import DeliveryActivities
from activities.delivery_http import Poster
from activities.loop import LoopActivities
from activities.numeric import one_blas_thread
from activities.optimization import OptimizationActivities
from activities.rollout import RolloutActivities
from domain.decision.strategy import StructuredPriorStrategy
from domain.errors import DatabaseError
from domain.ids import new_id
from domain.webhooks import Sender
from storage import fanout, publisher
from storage.changefeed import ChangeFeed
from storage.database import Database
from storage.fanout import FanOut
from storage.tasks import stop
from worker import deliveries, dispatcher, rollups, visibility
from worker.interceptors import HouseRules
from worker.schedules import Schedules, ensure_housekeeping
from workflows import ids
from workflows.delivery import DeliveryWorkflow
from workflows.loop import (
    AnalyzeWorkflow,
    CompareWorkflow,
    MaintainWorkflow,
    ReconcileWorkflow,
    TickWorkflow,
    WatchWorkflow,
)
from workflows.optimization import OptimizationWorkflow
from workflows.rollout import RolloutWorkflow

log = logging.getLogger(__name__)

WORKFLOWS = [
    OptimizationWorkflow,
    RolloutWorkflow,
    DeliveryWorkflow,
    TickWorkflow,
    ReconcileWorkflow,
    AnalyzeWorkflow,
    CompareWorkflow,
    MaintainWorkflow,
    WatchWorkflow,
]
RECONCILE_SECONDS = 30.0
SYNC_SECONDS = 30.0
# No more than there are connections to the database.
CONCURRENT_ACTIVITIES = 20
# These wait for others' answers most of the time.
CONCURRENT_DELIVERIES = 30
DEPLOYMENT_NAME = "llm-optimizer"
DISTRIBUTION = "llm-auto-optimizer-server"
DRAIN = timedelta(seconds=10)


@contextlib.asynccontextmanager
async def running_worker(
    database: Database,
    client: Client,
    *,
    step_seconds: float,
    redis_url: str | None = None,
    housekeeping: bool = True,
    task_queue: str = ids.TASK_QUEUE,
    webhooks_allow_private: bool = False,
) -> AsyncIterator[Worker]:
    """A worker that polls while the block runs, and drains at its end.

    `step_seconds` is the server's default for the length of a step. `redis_url` is where events are sent for
    the API's replicas. Without `housekeeping` nothing is dispatched, published or woken and no schedule is
    kept. Webhooks are sent to private addresses only where that is allowed.
    """
    searchable = await visibility.register(client)
    worker = build_worker(
        database, client, step_seconds=step_seconds, searchable=searchable, task_queue=task_queue
    )
    about = Sender(version=metadata.version(DISTRIBUTION), mode="daemon", instance_id=new_id("wrk"))
    async with Poster(about, allow_private=webhooks_allow_private) as poster:
        sender = build_sender(database, client, poster, task_queue=task_queue)
        beside = _housekeeping(database, client, redis_url) if housekeeping else contextlib.nullcontext()
        # The workflows end first: what they gave to a sender that is ending would be lost until its timeout.
        with one_blas_thread():
            async with sender, worker, beside:
                yield worker


@contextlib.asynccontextmanager
async def _housekeeping(database: Database, client: Client, redis_url: str | None) -> AsyncIterator[None]:
    """What a worker does beside its workflows and activities, while the block runs."""
    await ensure_housekeeping(client, reconcile_seconds=RECONCILE_SECONDS)
    redis = fanout.connect(redis_url) if redis_url else None
    fan_out = FanOut(redis, database) if redis is not None else None
    async with ChangeFeed(database) as feed:
        work = feed.event("optimizations", "rollouts", "control")
        policies = feed.event("services", "control")
        sending = feed.event("event_log", "webhooks")
        tasks = [
            asyncio.create_task(publisher.run(database, fan_out, feed.event("events"))),
            asyncio.create_task(dispatcher.run(database, client, work)),
            asyncio.create_task(_keep_schedules(database, client, policies)),
            asyncio.create_task(deliveries.run(database, client, sending)),
            asyncio.create_task(rollups.run(database)),
        ]
        try:
            yield
        finally:
            await stop(tasks)
            if redis is not None:
                await redis.aclose()


def build_sender(database: Database, client: Client, poster: Poster, *, task_queue: str) -> Worker:
    """The worker for deliveries, apart so that slow endpoints keep no rollout from being watched."""
    return Worker(
        client,
        task_queue=ids.delivery_queue(task_queue),
        activities=[DeliveryActivities(database, poster).deliver],
        interceptors=[HouseRules()],
        max_concurrent_activities=CONCURRENT_DELIVERIES,
        graceful_shutdown_timeout=DRAIN,
        deployment_config=_deployment(),
    )


def build_worker(
    database: Database, client: Client, *, step_seconds: float, searchable: bool, task_queue: str
) -> Worker:
    """The worker alone, not yet polling."""
    rollout = RolloutActivities(database, searchable=searchable)
    optimization = OptimizationActivities(
        database, StructuredPriorStrategy(), step_seconds=step_seconds, searchable=searchable
    )
    loop = LoopActivities(database, client, step_seconds=step_seconds)
    analysis = AnalysisActivities(database)
    return Worker(
        client,
        task_queue=task_queue,
        workflows=WORKFLOWS,
        activities=[
            rollout.begin,
            rollout.enter_step,
            rollout.check,
            rollout.show_status,
            rollout.extend_step,
            rollout.end_step,
            rollout.complete,
            rollout.roll_back,
            optimization.claim,
            optimization.begin_phase,
            optimization.observe,
            optimization.analyze,
            optimization.decide,
            optimization.open_rollout,
            optimization.finish,
            optimization.fail,
            loop.tick,
            loop.reconcile,
            loop.maintain,
            loop.watch,
            analysis.detect,
            analysis.refresh_baselines,
            analysis.compare,
        ],
        interceptors=[HouseRules()],
        max_concurrent_activities=CONCURRENT_ACTIVITIES,
        graceful_shutdown_timeout=DRAIN,
        deployment_config=_deployment(),
    )


def _deployment() -> WorkerDeploymentConfig:
    # Named, not versioned: without a name the SDK reads every loaded module to make one, for seconds.
    version = WorkerDeploymentVersion(
        deployment_name=DEPLOYMENT_NAME, build_id=metadata.version(DISTRIBUTION)
    )
    return WorkerDeploymentConfig(version=version, use_worker_versioning=False)


async def _keep_schedules(database: Database, client: Client, woken: asyncio.Event) -> None:
    schedules = Schedules(database, client)
    while True:
        woken.clear()
        try:
            await schedules.sync()
        except (DatabaseError, RPCError) as error:
            log.warning("schedules are not in step yet: %s", error)
        except Exception:
            log.exception("schedules are not in step yet")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SYNC_SECONDS):
                await woken.wait()
