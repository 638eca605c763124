"""One look at a rollout: close the bucket, judge it, keep what was seen, renew the watch."""

from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from domain.config import LLMConfig
from domain.gate.bucket import ArmBucket, Bucket
from domain.gate.settings import GateSettings
from domain.gate.state import GateState, observe
from domain.gate.verdict import Judgement, judge
from domain.policy import ServicePolicy
from domain.rollout_plan import RolloutPlan
from storage import configs, control, ledger, observations, rollouts
from storage.observations import Arm, Samples
from storage.tables import Rollout, RolloutCheck
from workflows import messages as m

ARRIVAL_MARGIN_MS = 1_000
"""A report is stamped just before it is committed; this long after, its bucket is whole."""


async def check(session: AsyncSession, arg: m.CheckInput) -> m.CheckResult:
    """Look at a rollout for the `number`-th time; the same number again gives what it gave before.

    Raises:
        RolloutClosed: the rollout is no longer this run's.
        LeaseLapsed: nobody watched it for a while.
    """
    row = await rollouts.lock_own(session, arg.deployment_id, arg.fence)
    await rollouts.require_watched(session, row)
    state = await control.get(session)
    done = await rollouts.get_check(session, arg.deployment_id, arg.number)
    if done is None:
        done = await _look(session, row, arg)
    await rollouts.renew(session, row)
    judgement = Judgement.model_validate(done.result)
    return m.CheckResult(
        verdict=judgement.verdict,
        reason=judgement.reason,
        table=_table(judgement),
        needs_approval=judgement.needs_approval,
        all_paused=state.state == "paused",
        revision=state.revision,
    )


async def _look(session: AsyncSession, row: Rollout, arg: m.CheckInput) -> RolloutCheck:
    plan = RolloutPlan.model_validate(row.plan)
    policy = ServicePolicy.model_validate(row.policy)
    settings = GateSettings.from_policy(policy)
    since = row.bucket_until or row.started_at or row.created_at
    until = max(since, await rollouts.clock(session) - ARRIVAL_MARGIN_MS)
    control_arm = await _arm(session, row.from_version)
    canary_arm = await _arm(session, row.to_version)
    gate = GateState.model_validate(row.gate_state) if row.gate_state else GateState()
    covered = await observations.coverage(session, row.scope)
    seen = await observations.arms(session, covered, control_arm, canary_arm, since=since, until=until)
    if plan.strategy == "immediate":
        # Nothing runs beside it; late reports of the version before are no control.
        seen = {service: (Samples(), canary) for service, (_, canary) in seen.items()}
    for bucket in _buckets(seen, until, row.traffic_percent):
        gate = observe(gate, bucket, settings)
    judgement = judge(
        gate,
        settings,
        step_end=arg.step_end,
        before_full=arg.step == plan.last_partial_step,
        extension=arg.extension,
        max_extensions=plan.max_extensions,
        model_changed=control_arm.config.model_key != canary_arm.config.model_key,
    )
    if plan.strategy == "immediate" and judgement.verdict == "inconclusive":
        # Nothing runs beside it, so that no longer watch would tell more.
        judgement = judgement.model_copy(update={"verdict": "healthy"})
    row.gate_state = gate.to_json()
    row.bucket_until = until
    row.check_number = arg.number
    await ledger.record(session, row, gate, policy)
    made = RolloutCheck(
        deployment_id=row.id,
        number=arg.number,
        step=arg.step,
        at=arg.at,
        bucket_from=since,
        bucket_until=until,
        verdict=judgement.verdict,
        reason=judgement.reason,
        result=judgement.to_json(),
    )
    session.add(made)
    await session.flush()
    return made


async def _arm(session: AsyncSession, version: str) -> Arm:
    row = await configs.get_version(session, version)
    return Arm(version, LLMConfig.model_validate(row.config))


def _buckets(seen: dict[str, tuple[Samples, Samples]], until: int, share: float) -> Iterable[Bucket]:
    """A bucket per service, numbered by arrival: services are never pooled within one."""
    for index, (control_samples, canary_samples) in enumerate(seen.values()):
        yield Bucket(
            id=until * 1000 + index,
            share=share,
            control=_bucket_of(control_samples),
            canary=_bucket_of(canary_samples),
        )


def _bucket_of(samples: Samples) -> ArmBucket:
    return ArmBucket(
        n=samples.n,
        errors=samples.errors,
        latency_ms=samples.latency_ms,
        cost_usd=samples.cost_usd,
        quality=samples.quality,
    )


def _table(judgement: Judgement) -> str:
    """The guardrails as a Markdown table."""
    lines = ["| guardrail | control | canary | difference | evidence of harm |", "|---|---|---|---|---|"]
    for reading in judgement.guardrails:
        interval = ""
        if reading.low is not None and reading.high is not None:
            interval = f" ({_number(reading.low)} … {_number(reading.high)})"
        lines.append(
            f"| {reading.metric} | {_number(reading.control)} (n {reading.samples.control}) "
            f"| {_number(reading.canary)} (n {reading.samples.canary}) "
            f"| {_number(reading.difference)}{interval} | {reading.evidence:.3g} |"
        )
    return "\n".join(lines)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
