"""`llm-optimizer worker`."""

import typer

from cli import logs
from cli.running import freeze_heap, stop_requested
from cli.running import run as run_loop
from cli.settings import Settings, SettingsError, load, require
from domain.errors import OptimizerError


def worker() -> None:
    """Run a Temporal worker alone, against DATABASE_URL and TEMPORAL_ADDRESS; any number may run."""
    try:
        settings = load()
        require(settings, "database_url", "temporal_address")
    except SettingsError as error:
        typer.echo(f"worker: {error}", err=True)
        raise typer.Exit(2) from None
    logs.set_up(settings.log_level)
    try:
        run_loop(run(settings))
    except (OptimizerError, RuntimeError) as error:
        typer.echo(f"worker: {error}", err=True)
        raise typer.Exit(1) from None


async def run(settings: Settings) -> None:
    """Work until asked to stop, then drain."""
    # Imported here, so that no other command waits for it.
    from cli.temporal import connect
    from storage.database import Database
    from worker.run import running_worker

    stopped = stop_requested()
    database = Database(settings.database_url or "")
    client = await connect(settings, address=settings.temporal_address or "")
    try:
        async with running_worker(
            database,
            client,
            step_seconds=settings.step_seconds,
            redis_url=settings.redis_url,
            webhooks_allow_private=settings.webhooks_allow_private,
        ):
            freeze_heap()
            await stopped.wait()
    finally:
        await database.close()


if __name__ == "__main__":
    typer.run(worker)
