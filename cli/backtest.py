"""`llm-optimizer backtest`: recorded history through a policy, and what is known of what it proposes."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from cli.settings import Settings, SettingsError, load, require
from domain.scope import SERVICE_PATTERN


def backtest(
    service: Annotated[str, typer.Option(help="The service whose record is replayed.")],
    policy: Annotated[
        Path, typer.Option(help="The policy, JSON or YAML, as PUT /services/{name} takes it.", metavar="FILE")
    ],
    since: Annotated[
        str | None, typer.Option(help="ISO 8601 (UTC unless it says) or ms. Default: where reports begin.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Likewise. Default: now.")] = None,
    every: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds from decision to decision. Default: the policy's schedule."),
    ] = None,
    output: Annotated[
        Literal["table", "json"], typer.Option("--output", "-o", help="json: a JSON object per line.")
    ] = "table",
) -> None:
    """Replay a service's record through a policy: what it would have proposed, when,
    and what is known of how that turned out.

    Reads DATABASE_URL and writes nothing: it may be run against production. Up to
    90 days are replayed. At each moment the policy is asked what a run would have
    been asked then, by the same code. What the file leaves out is at its default,
    whatever the service's own policy says.

    Each proposal is judged by itself, against the configuration that was served at
    that moment. Where what was proposed was served then or later, it is told what
    was measured of it: canary against control where a rollout compared them, else
    before and after, which whatever else changed may confound. Where it was not,
    the outcome is unknown, and is said to be.

    Exit code 0: it ran to its end, whatever it found. 1: it could not, or nothing
    is on record. 2: an option, a setting or the policy file is wrong; it is named.
    """
    # Imported here, so that no other command waits for it.
    from cli.backtesting import BacktestError, Options, run_backtest
    from cli.backtesting.display import print_json, print_tables, progress_bar
    from cli.backtesting.policy import PolicyError, read_policy
    from domain.backtest.report import Backtest
    from domain.decision.strategy import StructuredPriorStrategy
    from domain.errors import InvalidRequest, OptimizerError
    from storage.database import Database

    settings = _settings()
    try:
        options = Options(
            policy=read_policy(policy, _service(service), step_seconds=settings.step_seconds),
            since=_moment("--since", since),
            until=_moment("--until", until),
            every=every,
        )
    except PolicyError as error:
        _fail(f"--policy: {error}", 2)

    async def run() -> Backtest:
        database = Database(settings.database_url or "")
        try:
            with progress_bar() as progress:
                return await run_backtest(database, options, StructuredPriorStrategy(), progress)
        finally:
            await database.close()

    try:
        report = asyncio.run(run())
    except InvalidRequest as error:
        _fail(error.message, 2)
    except OptimizerError as error:
        _fail(error.message, 1)
    except BacktestError as error:
        _fail(str(error), 1)
    if output == "json":
        print_json(report)
    else:
        print_tables(report)


def _settings() -> Settings:
    try:
        settings = load()
        require(settings, "database_url")
    except SettingsError as error:
        _fail(str(error), 2)
    return settings


def _service(name: str) -> str:
    if re.fullmatch(SERVICE_PATTERN, name) is None:
        raise typer.BadParameter(f"{name!r} does not match {SERVICE_PATTERN}", param_hint="--service")
    return name


def _moment(option: str, text: str | None) -> int | None:
    """Milliseconds since the epoch of a moment given so, or in ISO 8601."""
    if text is None:
        return None
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither ISO 8601 nor ms since the epoch", param_hint=option
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"backtest: {message}", err=True)
    raise typer.Exit(code)
