"""`llm-optimizer dev`."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import logs
from cli.running import run as run_loop
from cli.running import stop_requested
from cli.settings import Settings, SettingsError, load
from infra.errors import StackError

if TYPE_CHECKING:
    from cli.embedded import Addresses


def dev(
    port: Annotated[int | None, typer.Option(help="The API's port, or a free one if taken [8080].")] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the data are kept, and found again [OPTIMIZER_DATA_DIR].")
    ] = None,
    step_seconds: Annotated[
        float | None, typer.Option(help="How long a rollout's step is where a policy does not say [300].")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as one JSON object.")] = False,
) -> None:
    """Run everything on this machine: PostgreSQL, Redis, Temporal with its UI, the API and a worker.

    What DATABASE_URL, REDIS_URL or TEMPORAL_ADDRESS point to is used in place of an own server. The
    admin key is OPTIMIZER_API_KEY, or one that is made at the first start. Ctrl-C stops everything.
    """
    try:
        settings = load(port=port, data_dir=data_dir, step_seconds=step_seconds)
    except SettingsError as error:
        typer.echo(f"dev: {error}", err=True)
        raise typer.Exit(2) from None
    logs.set_up("warning" if settings.log_level == "info" else settings.log_level)
    try:
        code = run_loop(_run(settings, as_json=as_json))
    except StackError as error:
        typer.echo(f"dev: {error}", err=True)
        code = 1
    raise typer.Exit(code)


async def _run(settings: Settings, *, as_json: bool) -> int:
    """Run until asked to stop, also while starting."""
    stopped = stop_requested()
    life = asyncio.create_task(_live(settings, as_json=as_json))
    asked = asyncio.create_task(stopped.wait())
    await asyncio.wait((life, asked), return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    life.cancel("asked to stop")
    with contextlib.suppress(asyncio.CancelledError):
        return await life
    return 0


async def _live(settings: Settings, *, as_json: bool) -> int:
    # Imported here, so that no other command waits for it.
    from cli.embedded import running

    async with running(settings, _say) as product:
        _announce(product.addresses, as_json=as_json)
        failure = await product.failed
        _say(failure)
        return 1


def _announce(addresses: "Addresses", *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(addresses.to_json()))
        return
    grpc = f"  gRPC {addresses.grpc}" if addresses.grpc else ""
    ui = f"  Temporal UI {addresses.temporal_ui}" if addresses.temporal_ui else ""
    typer.echo(
        f"ready: API {addresses.api}{grpc}{ui}  Temporal {addresses.temporal}"
        f"  key {addresses.key}  data {addresses.data_dir}"
    )


def _say(line: str) -> None:
    typer.echo(line, err=True)
