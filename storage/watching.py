"""The watch: looks at every service's rules, triggers, prices and brakes, and does at once what is due.

All that is read is read for all services together. What is due is done in a transaction of its own, where it
is looked up again under a lock whether it was done meanwhile: so a look may be repeated, and two may overlap.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.base import Message
from domain.conditions import Alert, ConfigChange, ModelSwitch, RollBack, Rule, Trigger
from domain.decision.problem import DecisionProblem
from domain.errors import Conflict, NotFound, Stopped
from domain.optimization import OptimizationRequest
from domain.policy import ServicePolicy
from domain.rules.changes import changed
from domain.rules.firing import Judged, held_back, is_event, judge_all
from domain.rules.needs import needs
from domain.rules.ruling import RuledBack
from domain.scope import GLOBAL, Scope
from storage import brakes, configs, control, firings, noticing, optimizations, rollouts, services, signals
from storage.database import Database, deadline
from storage.events import alert
from storage.going_back import go_back
from storage.tables import Control, OptimizedService, Rollout, db_clock

log = logging.getLogger(__name__)

BY = "watch"
READ_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look saw: the policies, how their rules and triggers stand, and what is new of their offers.

    `busy` are the services that are being optimized or changed already.
    """

    policies: Mapping[str, ServicePolicy]
    judged: Mapping[str, Sequence[Judged]]
    news: Mapping[str, str]
    busy: frozenset[str]


async def look(database: Database, *, scheduled_at: int, step_seconds: float) -> list[str]:
    """Look once, and give a line for each thing done.

    `scheduled_at` (ms) names the look. While a pause holds alerts alone are raised; after an emergency stop
    nothing is done.
    """
    async with database.transaction() as session:
        state = (await control.get(session)).state
        if state == "stopped":
            return []
        policies = await services.watched(session, step_seconds=step_seconds)
        news = await noticing.look(session, policies, await rollouts.clock(session))
    notes = await _announce_brakes(database, step_seconds=step_seconds)
    async with database.transaction() as session:
        seen = await _see(session, policies, news)
    for name in seen.policies:
        try:
            notes += await _of_service(database, name, seen, scheduled_at, paused=state == "paused")
        except (Conflict, NotFound, Stopped) as refused:
            notes.append(f"{name}: {refused.message}")
        except Exception:
            # One service's trouble is not to keep the others from being watched.
            log.exception("the watch of %s failed", name)
            notes.append(f"{name}: the watch failed")
    return notes


async def judge(
    session: AsyncSession, policies: Mapping[str, ServicePolicy], now: int, *, but_by: str | None = None
) -> dict[str, list[Judged]]:
    """By service, how its rules and triggers stand at `now` (ms), higher priority first.

    `but_by` is a run whose own firings do not count.
    """
    subjects: dict[str, list[Rule | Trigger]] = {
        name: [*policy.rules, *policy.triggers]
        for name, policy in policies.items()
        if policy.rules or policy.triggers
    }
    wanted = {name: needs(subject.condition for subject in found) for name, found in subjects.items()}
    async with deadline(session, READ_SECONDS):
        read = await signals.read(session, wanted, now)
    fired = await firings.fired(session, sorted(subjects), but_by=but_by)
    return {name: judge_all(found, read[name], fired.get(name, {}), now) for name, found in subjects.items()}


async def _see(
    session: AsyncSession, policies: Mapping[str, ServicePolicy], news: Mapping[str, str]
) -> _Seen:
    open_parts = select(OptimizedService.service).where(OptimizedService.open)
    optimized = set((await session.execute(open_parts)).scalars())
    held = await rollouts.holders(session, policies)
    return _Seen(
        policies=policies,
        judged=await judge(session, policies, await rollouts.clock(session)),
        news=news,
        busy=frozenset(optimized | held.keys()),
    )


async def _announce_brakes(database: Database, *, step_seconds: float) -> list[str]:
    """Raise the alerts of brakes that took hold since the last look."""
    async with database.transaction() as session:
        lately = select(Rollout.scope).where(
            Rollout.status.in_(("rolled_back", "failed")), Rollout.ended_at > db_clock(-86_400.0)
        )
        scopes = set((await session.execute(lately.distinct())).scalars()) - {GLOBAL}
        names = sorted(scope for scope in scopes if ":" not in scope)
        policies = {
            name: await services.policy_of(session, name, step_seconds=step_seconds) for name in names
        }
        stand = await brakes.of_services(session, policies) if policies else {}
        return [
            f"{name}: {found.refusal}"
            for name, found in stand.items()
            if await brakes.announce(session, name, found)
        ]


async def _of_service(
    database: Database, name: str, seen: _Seen, scheduled_at: int, *, paused: bool
) -> list[str]:
    """Do what is due for a service: alerts, and unless a pause holds a rollback or a run."""
    due = [judged for judged in seen.judged.get(name, ()) if judged.fires]
    notes = [await _alert(database, name, judged) for judged in due if _is(judged, Alert)]
    if not paused:
        notes.append(await _act(database, name, seen, due, scheduled_at))
    return [f"{name}: {note}" for note in notes if note]


async def _act(
    database: Database, name: str, seen: _Seen, due: Sequence[Judged], scheduled_at: int
) -> str | None:
    """Go back, or open a run, whichever comes first; while a service is busy it can only go back."""
    policy = seen.policies[name]
    due = await _that_change_something(database, policy, due)
    idle = name not in seen.busy
    first = next((judged for judged in due if not _is(judged, Alert)), None)
    back = next((judged for judged in due if _is(judged, RollBack)), None)
    if back is not None and (back is first or not idle):
        return await _go_back(database, policy, back)
    if idle and (first is not None or name in seen.news):
        runs = [judged for judged in due if not _is(judged, Alert | RollBack)]
        return await _open_run(database, policy, runs, seen.news.get(name), scheduled_at)
    return None


def _is(judged: Judged, kind: type[Message] | UnionType) -> bool:
    """Whether it is a rule with an action of a kind."""
    return isinstance(judged.subject, Rule) and isinstance(judged.subject.action, kind)


async def _claim(session: AsyncSession, service: str, due: Sequence[Judged]) -> tuple[Control, list[Judged]]:
    """The control row, held, and which of what was due still is, with nobody else firing meanwhile."""
    row = await control.require_running(session)
    await firings.hold(session, service)
    fired = (await firings.fired(session, [service])).get(service, {})
    now = await rollouts.clock(session)
    return row, [j for j in due if held_back(j.subject, fired.get(j.key), now) is None]


async def _alert(database: Database, service: str, judged: Judged) -> str | None:
    rule = judged.subject
    assert isinstance(rule, Rule)
    assert isinstance(rule.action, Alert)
    async with database.transaction() as session:
        _, still = await _claim(session, service, [judged])
        if not still:
            return None
        words = judged.evaluation.words
        await firings.record(session, service, judged.key, action="alert", words=words)
        details = {"rule": rule.id, "description": rule.description}
        reason = f"rule {rule.id}: {words}"
        given = {key: value for key, value in details.items() if value is not None}
        alert(session, service, rule.action.severity, reason, given)
    return f"alert by rule {rule.id}: {words}"


async def _go_back(database: Database, policy: ServicePolicy, judged: Judged) -> str | None:
    rule = judged.subject
    assert isinstance(rule, Rule)
    assert isinstance(rule.action, RollBack)
    async with database.transaction() as session:
        row, still = await _claim(session, policy.service, [judged])
        if not still or row.state != "running":
            return None
        words = judged.evaluation.words
        reasoning = f"Rule {rule.id}: {words}."
        ruled = RuledBack(rule=rule.id, to_version=rule.action.to_version, reasoning=reasoning)
        went = await go_back(session, ruled, policy)
        await firings.record(
            session,
            policy.service,
            judged.key,
            action="rollback",
            words=f"{words}. {went.note}",
            reference=went.rollout_id,
        )
    return f"{reasoning} {went.note}"


async def _open_run(
    database: Database, policy: ServicePolicy, due: Sequence[Judged], news: str | None, scheduled_at: int
) -> str | None:
    """Open a run for all that is due for a service."""
    service = policy.service
    async with database.transaction() as session:
        row, still = await _claim(session, service, due)
        if row.state != "running" or not (still or news):
            return None
        if (held := await rollouts.holder(session, service)) is not None:
            return f"rollout {held.id} is open"
        told = [{"by": judged.key, "words": judged.evaluation.words} for judged in still]
        if news:
            told.append({"by": "offers", "words": news})
        run = await optimizations.open_optimization(
            session,
            OptimizationRequest(services=[service]),
            triggered_by="event" if news or any(is_event(j.subject) for j in still) else "threshold",
            by=BY,
            details={"reason": "; ".join(found["words"] for found in told), "fired": told},
            trigger_key=f"watch/{service}/{scheduled_at}",
        )
        for judged in still:
            subject = judged.subject
            action = "trigger" if isinstance(subject, Trigger) else subject.action.type
            await firings.record(
                session, service, judged.key, action=action, words=judged.evaluation.words, reference=run.id
            )
        if news:
            await noticing.know(session, service)
            await firings.record(session, service, "offers", action="trigger", words=news, reference=run.id)
    return f"opened {run.id}: {run.trigger_details and run.trigger_details['reason']}"


async def _that_change_something(
    database: Database, policy: ServicePolicy, due: Sequence[Judged]
) -> list[Judged]:
    """What is due, without rules whose change is what the service serves already."""
    if not any(_is(judged, ConfigChange | ModelSwitch) for judged in due):
        return list(due)
    async with database.transaction() as session:
        present = await configs.active(session, Scope(policy.service))
    if present is None:
        return [judged for judged in due if not _is(judged, ConfigChange | ModelSwitch)]
    problem = DecisionProblem(
        service=policy.service,
        incumbent=present.config,
        objectives=policy.objectives,
        search_space=policy.search_space,
        now=present.applied_at,
    )
    return [judged for judged in due if not _is_served(problem, judged.subject)]


def _is_served(problem: DecisionProblem, subject: Rule | Trigger) -> bool:
    if not isinstance(subject, Rule) or not isinstance(subject.action, ConfigChange | ModelSwitch):
        return False
    try:
        return changed(problem, subject.action) == problem.incumbent
    except ValidationError:
        # The run that it opens says what is wrong with it.
        return False
