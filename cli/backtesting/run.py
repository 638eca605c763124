"""A backtest from its options to its report: the record is read, then each moment of it decided."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from activities import problems
from activities.numeric import one_blas_thread
from cli.backtesting.outcomes import Outcomes
from cli.backtesting.rules import RulesReplay, read_rules
from domain.analytics import DAY_MS, HOUR_MS, MAX_WINDOW_MS
from domain.backtest.lines import Decision, merged, summarized
from domain.backtest.report import Backtest, Heading
from domain.backtest.ticks import cell_length, ticks
from domain.decision.problem import DecisionProblem, Rejection, Skip, Strategy, Traffic
from domain.errors import InvalidRequest
from domain.policy import ServicePolicy
from domain.times import told
from storage import record, rollouts, served, services
from storage.database import Database
from storage.record import Extent, Record

_LENGTHS = {DAY_MS: "day", HOUR_MS: "hour"}

Progress = Callable[[int, int], None]
"""Told how many decisions are made, of how many."""


class BacktestError(Exception):
    """There is nothing that could be replayed, in words for the person who asked."""


@dataclass(frozen=True, slots=True)
class Options:
    """What is replayed: a service's time from `since` to `until` (ms; by default all that is kept, up to 90
    days), a decision `every` so many seconds (by default as the policy's schedule has it).
    """

    policy: ServicePolicy
    since: int | None = None
    until: int | None = None
    every: float | None = None

    @property
    def every_ms(self) -> int:
        return round(1000 * (self.every or self.policy.schedule.every_seconds))


@dataclass(frozen=True, slots=True)
class Replay:
    """All that a backtest needs of the database."""

    moments: range
    record: Record
    refused: list[Rejection]
    rules: RulesReplay


async def run_backtest(
    database: Database, options: Options, strategy: Strategy, progress: Progress
) -> Backtest:
    """Replay a service's record through a policy.

    Raises:
        BacktestError: the service is not known, or has nothing on record in that time.
        OptimizerError: the time makes no sense, or the database does not answer.
    """
    replay = await load(database, options)
    decisions = _decisions(replay, options.policy, strategy, progress)
    with one_blas_thread():
        lines = merged(decisions, Outcomes(replay.record).of)
    return Backtest(heading=_heading(options, replay), lines=lines, summary=summarized(lines))


async def load(database: Database, options: Options) -> Replay:
    """Read all that the replay is about, as of one moment, without a write.

    Raises:
        BacktestError, OptimizerError: as for `run_backtest`.
    """
    service = options.policy.service
    async with database.snapshot() as session:
        await services.get(session, service)
        now = await rollouts.clock(session)
        until = now if options.until is None else min(options.until, now)
        since = until - MAX_WINDOW_MS if options.since is None else options.since
        if since >= until:
            raise InvalidRequest("--since is not before --until, or is in the future")
        first = await record.first_hour(session, service, since, until)
        if first is None:
            raise BacktestError(
                f"no request of {service} is on record from {told(since)} to {told(until)} UTC"
            )
        moments = ticks(max(since, first), until, options.every_ms)
        history = await record.read(
            session, await served.read(session, service), _extent(options, moments, now)
        )
        refused = await problems.rejections(session, service, moments[0] - problems.REJECTED_MS)
        rules = await read_rules(session, options.policy, moments)
    return Replay(moments, history, refused, rules)


def _extent(options: Options, moments: range, now: int) -> Extent:
    windows = problems.traffic_windows(options.policy)
    return Extent(
        moments=moments,
        history=problems.HISTORY_MS,
        history_cell=cell_length(options.every_ms, [problems.HISTORY_MS]),
        traffic=max(windows),
        traffic_cell=cell_length(options.every_ms, windows),
        end=now,
    )


def _decisions(
    replay: Replay, policy: ServicePolicy, strategy: Strategy, progress: Progress
) -> Iterator[Decision]:
    for number, moment in enumerate(replay.moments, start=1):
        yield decision(replay, policy, moment, strategy)
        progress(number, len(replay.moments))


def decision(replay: Replay, policy: ServicePolicy, moment: int, strategy: Strategy) -> Decision:
    """What the policy says at a moment (ms): its rules first, then the optimizer."""
    problem, version = problem_at(replay, policy, moment)
    if problem is None:
        return Decision(moment, Skip(reasoning="No configuration is known to have been served."))
    outcome = replay.rules.decide(problem, strategy, replay.record.versions)
    return Decision(moment, outcome, None if isinstance(outcome, Skip) else problem, version)


def problem_at(replay: Replay, policy: ServicePolicy, moment: int) -> tuple[DecisionProblem | None, str]:
    """What would have been to decide at a moment (ms), and the version that was served; no problem where none
    was. It is built as a run builds it, of what was known then.
    """
    history = replay.record
    active = history.active(moment)
    if active is None:
        return None, ""
    traffic = history.traffic(moment, problems.traffic_windows(policy))
    known = problems.Known(
        now=moment,
        active=active,
        groups=history.history(moment - problems.HISTORY_MS, moment, at=moment),
        versions=history.versions,
        traffic=[Traffic(window_ms=w, requests=n, cost_usd=cost) for w, n, cost in traffic],
    )
    refused = [found for found in replay.refused if moment - problems.REJECTED_MS <= found.at <= moment]
    return problems.problem(policy.service, problems.observed_of(known), policy, refused, {}), active.version


def _heading(options: Options, replay: Replay) -> Heading:
    return Heading(
        service=options.policy.service,
        since=replay.moments[0],
        until=replay.moments[-1],
        every_seconds=options.every_ms / 1000,
        notes=list(_notes(options.policy, replay)),
    )


def _notes(policy: ServicePolicy, replay: Replay) -> Iterator[str]:
    """How the replay was done, as far as a reader has to know it."""
    cell = replay.record.extent.history_cell
    yield (
        "Each proposal is judged by itself against the configuration that was served then (one step): the "
        "record goes on as it did, and does not follow what is proposed."
    )
    yield (
        f"A report counts from its own time on, by the {_LENGTHS.get(cell, 'minute')}, though it may have "
        "arrived later: of reports that came late the replay knows more than a run would have known."
    )
    yield "What a proposal that was not served from then on would have come to is unknown: it is not guessed."
    yield from replay.rules.notes
    if policy.triggers:
        yield f"The policy's triggers ({len(policy.triggers)}) start nothing here: decisions are on schedule."
