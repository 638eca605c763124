"""What the Temporal UI shows of a run and of a rollout: attributes, summaries, live details."""

from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowHandle

from storage.database import Database
from tests.workflows.lab import INCUMBENT, Lab, two_steps
from worker import visibility as worker_visibility
from workflows import ids, visibility
from workflows import messages as m
from workflows.rollout import RolloutWorkflow


async def details(handle: WorkflowHandle[Any, Any]) -> str:
    """The live details, as the UI asks for them."""
    metadata: WorkflowMetadata = await handle.query(
        "__temporal_workflow_metadata", result_type=WorkflowMetadata
    )
    return metadata.current_details


async def test_a_running_rollout_tells_its_service_versions_step_and_guardrails(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    await lab.traffic(deployment_id, requests=1_000)
    handle = lab.handle(deployment_id)
    seen: list[str] = []

    async def look_around() -> None:
        seen.append(await details(handle))
        described = await handle.describe()
        assert await described.static_summary() == "chat: chat@1 → chat@2 (canary)"
        found = described.typed_search_attributes
        assert found.get(visibility.SERVICE) == "chat"
        assert found.get(visibility.VERSION) == "chat@2"
        assert found.get(visibility.DEPLOYMENT) == deployment_id
        assert found.get(visibility.STRATEGY) == "canary"
        assert found.get(visibility.OUTCOME) == "running"
        assert found.get(visibility.STEP_PERCENT) == 50

    lab.at_look[3] = look_around
    await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"
    assert seen[0].startswith("**chat**: chat@1 → **chat@2** (canary)\n\nStep 1 of 2, 50 % of the traffic, ")
    assert "| guardrail | control | canary |" in seen[0]
    for metric in ("errors.rate", "latency.p95", "latency.avg", "cost.avg", "quality.avg"):
        assert f"| {metric} | " in seen[0]
    ended = (await handle.describe()).typed_search_attributes
    assert ended.get(visibility.OUTCOME) == "completed"
    assert ended.get(visibility.STEP_PERCENT) == 100


async def test_a_run_tells_its_service_phase_and_outcome(lab: Lab) -> None:
    await lab.service()
    optimization_id = await lab.open_run("chat", dryRun=True)
    handle = await lab.start_run(optimization_id)
    await handle.result()
    described = await handle.describe()
    assert await described.static_summary() == "optimize chat"
    found = described.typed_search_attributes
    assert found.get(visibility.SERVICE) == "chat"
    assert found.get(visibility.PHASE) == "decide"
    assert found.get(visibility.OUTCOME) == "completed"
    shown = await details(handle)
    assert shown.startswith("Phase **decide**, 100 %, completed\n\n- **chat**: ")
    assert shown.endswith("Outcome: **optimize**")


async def test_timers_and_activities_carry_summaries(lab: Lab) -> None:
    await lab.first_config()
    deployment_id = await lab.open(two_steps())
    handle = lab.handle(deployment_id)
    lab.at_look[2] = lambda: handle.execute_update(RolloutWorkflow.abort, m.Act(by="ada"))
    await lab.start(deployment_id)
    await handle.result()
    summaries = {
        event.user_metadata.summary.data.decode().strip('"')
        for event in (await lab.runs(handle))[0]
        if event.event_type
        in (EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED, EventType.EVENT_TYPE_TIMER_STARTED)
    }
    assert summaries == {
        "claim the rollout",
        "serve 50 %",
        "step 1/2 (50 %): 300 s left",
        "50 %: look 1",
        "step 1/2 (50 %): 200 s left",
        "50 %: look 2",
        "take back: aborted by ada",
    }


@pytest.mark.parametrize(
    ("scope", "endpoint"), [("s" * 128, None), ("s" * 128, "é" * 250), ("chat", 'q"\\' * 80)]
)
async def test_the_longest_names_stall_nothing(lab: Lab, scope: str, endpoint: str | None) -> None:
    scope = scope if endpoint is None else f"{scope}:{endpoint}"
    await lab.first_config(scope)
    deployment_id = await lab.open(two_steps(maxExtensions=0, onInconclusive="promote"), scope=scope)
    handle = await lab.start(deployment_id)
    assert (await handle.result()).status == "completed"


def test_a_summary_is_cut_to_what_temporal_takes() -> None:
    assert visibility.brief("short") == "short"
    assert visibility.brief('two\nlines "and" \\ more\x00') == "two lines 'and' / more "
    for long in ("x" * 1_000, "é" * 1_000, "大" * 1_000):
        cut = visibility.brief(long)
        assert len(cut.encode()) <= 300
        assert cut.endswith("…")
        assert long.startswith(cut[:-1])


async def test_without_search_attributes_nothing_stalls(
    database: Database, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(client: object) -> bool:
        return False

    monkeypatch.setattr(worker_visibility, "register", refused)
    monkeypatch.setattr(ids, "TASK_QUEUE", "without-attributes")
    await lab.first_config()
    deployment_id = await lab.open(two_steps(maxExtensions=0, onInconclusive="promote"))
    async with lab.another_worker("without-attributes"):
        handle = await lab.start(deployment_id)
        assert (await handle.result()).status == "completed"
        other = await lab.open(two_steps(), config=INCUMBENT.model_copy(update={"temperature": 0.1}))
        stopped = await lab.start(other)
        await stopped.signal(RolloutWorkflow.emergency_stop)
        assert (await stopped.result()).status == "rolled_back"
    for one in (handle, stopped):
        found = (await one.describe()).typed_search_attributes
        assert found.get(visibility.SERVICE) is None
