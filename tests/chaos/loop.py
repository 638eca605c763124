"""Services with traffic, their runs and rollouts, and what must hold of them whatever was killed."""

from itertools import pairwise
from typing import Any

from temporalio.client import Client

from domain.policy import ServicePolicy
from domain.rollout_plan import plan_rollout
from storage import configs, optimizations, partitions, rollouts, services
from storage.database import Database
from tests.storage import records
from tests.waiting import until
from workflows import starts

INCUMBENT, CANDIDATE = "gpt-4-1106-preview", "gpt-4o-mini"
# The canary gets no traffic here: a step passes by its time alone.
ROLLOUT = {
    "steps": [5, 25, 50, 100],
    "stepSeconds": 1.0,
    "checkSeconds": 0.4,
    "maxExtensions": 0,
    "onInconclusive": "promote",
}
REPORTS = """
    INSERT INTO metrics (received_at, ts, service, endpoint, provider, model, config_version, latency_ms,
        tokens_input, tokens_output, tokens_total, cost_usd, status_code)
    SELECT now() - interval '1 minute', now() - interval '1 minute', service, 'answer', 'openai', $2,
        service || '@1', 400 + n % 7, 1000, 200 + n % 9, 1200 + n % 9, 0.016, 200
    FROM unnest($1::text[]) service, generate_series(1, 200) n
"""
SCORES = """
    INSERT INTO quality (received_at, ts, service, config_version, overall_score)
    SELECT now() - interval '1 minute', now() - interval '1 minute', service, service || '@1', 85 + n % 5
    FROM unnest($1::text[]) service, generate_series(1, 200) n
"""


class Loop:
    """The optimizer's loop on a real stack."""

    def __init__(self, database: Database, client: Client) -> None:
        self.database = database
        self.client = client

    async def serve(self, *names: str, reported: bool = True, **rollout: Any) -> None:
        """Services that serve their first version, with a dear incumbent, and a cheap candidate in sight."""
        for name in names:
            async with self.database.transaction() as session:
                await services.put_policy(session, _policy(name, rollout))
                state = await configs.lock_scope(session, name)
                await configs.apply_first(
                    session,
                    state,
                    records.config(INCUMBENT),
                    by="ada",
                    change_type="manual",
                    reason="first",
                )
        if reported:
            pool = await self.database.pool()
            async with pool.acquire() as connection:
                await partitions.ensure_partitions(connection)
                await connection.execute(REPORTS, list(names), INCUMBENT)
                await connection.execute(SCORES, list(names))

    async def open_rollout(self, scope: str, model: str = CANDIDATE) -> str:
        """The row of a rollout, of the candidate usually."""
        async with self.database.transaction() as session:
            policy = await services.policy_of(session, scope, step_seconds=1.0)
            row = await rollouts.open_rollout(
                session,
                rollouts.NewRollout(
                    scope=scope,
                    config=records.config(model),
                    plan=plan_rollout(policy.rollout, policy.rollout.strategy, None),
                    policy=policy,
                    change_type="manual",
                    by="ada",
                    reason="cheaper",
                ),
            )
        return row.id

    async def open_run(self, *names: str) -> str:
        """The row of a run over some services."""
        return (await records.open_run(self.database, *names)).id

    async def start_opened_rollout(self, deployment_id: str) -> None:
        await starts.start_rollout(self.client, deployment_id, summary=deployment_id)

    async def start_opened_run(self, optimization_id: str) -> None:
        await starts.start_optimization(self.client, optimization_id, summary=optimization_id)

    async def start_rollout(self, scope: str) -> str:
        deployment_id = await self.open_rollout(scope)
        await self.start_opened_rollout(deployment_id)
        return deployment_id

    async def until_rollout(self, deployment_id: str, *statuses: str, seconds: float = 180) -> None:
        async def reached() -> bool:
            return (await records.get_rollout(self.database, deployment_id)).status in statuses

        await until(reached, seconds)

    async def until_step(self, deployment_id: str, step: int) -> None:
        """Until the step's share is served."""

        async def reached() -> bool:
            return (await records.get_rollout(self.database, deployment_id)).step >= step

        await until(reached)

    async def until_watched(self, deployment_id: str) -> None:
        """Until a look has renewed the lease."""
        pool = await self.database.pool()
        renewed = "SELECT watched_until > now() FROM rollouts WHERE id = $1"

        async def reached() -> bool:
            return bool(await pool.fetchval(renewed, deployment_id))

        await until(reached)

    async def until_no_workflow(self, *types: str) -> None:
        """Until no workflow of these types runs any more."""
        named = ", ".join(f"'{name}'" for name in types)
        query = f"ExecutionStatus = 'Running' AND WorkflowType IN ({named})"

        async def ended() -> bool:
            return (await self.client.count_workflows(query)).count == 0

        await until(ended)

    async def until_run(self, optimization_id: str, *statuses: str, seconds: float = 180) -> None:
        async def reached() -> bool:
            return (await records.get_run(self.database, optimization_id)).status in statuses

        await until(reached, seconds)

    async def require_completed(self, deployment_id: str) -> None:
        """Each step begun once and ended once, no look left out, no version made twice, all told once."""
        pool = await self.database.pool()
        row = await records.get_rollout(self.database, deployment_id)
        percents = [step["percent"] for step in row.plan["steps"]]
        assert row.status == "completed", row.rollback or row.error
        assert await records.served(self.database, row.scope) == row.to_version
        assert [
            version for version in await records.versions(self.database) if _is_of(row.scope, version)
        ] == [
            row.from_version,
            row.to_version,
        ]
        steps = await pool.fetch("SELECT * FROM rollout_steps WHERE deployment_id = $1 ORDER BY step", row.id)
        assert [(step["step"], step["percent"]) for step in steps] == list(enumerate(percents))
        assert all(step["ended_at"] is not None and step["verdict"] for step in steps)
        assert [step["started_at"] for step in steps] == sorted(step["started_at"] for step in steps)
        looks = await pool.fetch(
            "SELECT * FROM rollout_checks WHERE deployment_id = $1 ORDER BY number", row.id
        )
        assert [look["number"] for look in looks] == list(range(1, len(looks) + 1))
        assert [look["step"] for look in looks] == sorted(look["step"] for look in looks)
        assert all(
            earlier["bucket_until"] == later["bucket_from"] or earlier["step"] != later["step"]
            for earlier, later in pairwise(looks)
        )
        told = [
            (event.type, event.data.get("currentStep"))
            for event in await records.events(self.database, scope=row.scope)
            if event.data.get("deploymentId") == row.id
        ]
        assert told == [
            ("deployment.started", None),
            *(("deployment.progressed", f"{percent:g} %") for percent in percents),
            ("deployment.completed", None),
        ]

    async def require_rolled_back(self, deployment_id: str) -> None:
        """Taken back once, and what was served before is served."""
        row = await records.get_rollout(self.database, deployment_id)
        assert (row.status, row.traffic_percent, row.watched_until) == ("rolled_back", 0, None)
        assert await records.served(self.database, row.scope) == row.from_version
        told = [
            event.type
            for event in await records.events(self.database, "rollback.triggered", "rollback.completed")
            if event.data["deploymentId"] == row.id
        ]
        assert told == ["rollback.triggered", "rollback.completed"]

    async def require_run_completed(self, optimization_id: str) -> str:
        """Every phase done, one rollout made, the end told once. Gives the rollout."""
        run = await records.get_run(self.database, optimization_id)
        assert (run.status, run.phase, run.progress) == ("completed", "act", 100), run.error
        assert run.decision == "optimize", run.reasoning
        async with self.database.transaction() as session:
            (part,) = await optimizations.parts(session, optimization_id)
            assert not part.open
            assert part.plan is not None
        pool = await self.database.pool()
        made = await pool.fetch("SELECT id FROM rollouts WHERE optimization_id = $1", optimization_id)
        assert [row["id"] for row in made] == [part.deployment_id]
        told = [
            event.data["optimizationId"]
            for event in await records.events(self.database, "optimization.complete")
        ]
        assert told.count(optimization_id) == 1
        return str(part.deployment_id)


def _policy(name: str, rollout: dict[str, Any]) -> ServicePolicy:
    return ServicePolicy.model_validate(
        {
            "service": name,
            "objectives": [{"metric": "cost", "goal": "minimize", "weight": 1.0}],
            "searchSpace": {
                "models": [
                    {"provider": "openai", "model": INCUMBENT},
                    {"provider": "openai", "model": CANDIDATE},
                ]
            },
            "rollout": ROLLOUT | rollout,
        }
    )


def _is_of(scope: str, version: str) -> bool:
    return version.rpartition("@")[0] == scope
