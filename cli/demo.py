"""`llm-optimizer demo`."""

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import logs
from cli.replay import show
from cli.replaying import ReplayError, ReplayReport, run_replay
from cli.replaying.display import progress_view
from cli.replaying.synthetic import synthetic_options
from cli.running import run as run_loop
from cli.settings import Settings, SettingsError, load
from infra.errors import StackError

if TYPE_CHECKING:
    from cli.embedded import Running


def demo(
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the data are kept, to look at afterwards with `dev`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Run the main job once, on made-up traffic: observe, decide, roll out behind gates, report."""
    try:
        settings = load(data_dir=data_dir)
        logs.set_up("warning")
        report = run_loop(_run(settings))
    except (SettingsError, StackError, ReplayError) as error:
        typer.echo(f"demo: {error}", err=True)
        raise typer.Exit(1) from None
    show(report, as_json=as_json)
    typer.echo(f"Look around: llm-optimizer dev --data-dir {settings.data_dir}", err=True)
    raise typer.Exit(0 if report.ended else 1)


async def _run(settings: Settings) -> ReplayReport:
    typer.echo("starting PostgreSQL, Redis, Temporal, the API and a worker …", err=True)
    # Imported here, so that no other command waits for it.
    from cli.embedded import running

    async with running(settings, lambda line: typer.echo(line, err=True)) as product:
        return await asyncio.to_thread(_replay, product)


def _replay(product: "Running") -> ReplayReport:
    addresses = product.addresses
    with tempfile.TemporaryDirectory() as folder, progress_view() as view:
        options = synthetic_options(
            Path(folder),
            service="demo",
            endpoint=addresses.api,
            api_key=addresses.key,
            temporal_ui=addresses.temporal_ui,
        )
        return run_replay(options, view)
