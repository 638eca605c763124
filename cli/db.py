"""`llm-optimizer db`."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer

from cli.settings import SettingsError, load, require

app = typer.Typer(help="Look after the database.", no_args_is_help=True)


@app.callback()
def group() -> None:
    """Look after the database."""


@app.command()
def upgrade() -> None:
    """Bring the schema of DATABASE_URL up to date. Safe to repeat, and to run from several places at once."""
    # Imported here, so that no other command waits for it.
    from storage.migrations import upgrade as upgrade_schema

    upgrade_schema(_database_url("upgrade"))
    typer.echo("the schema is up to date", err=True)


@app.command("rebuild-rollups")
def rebuild_rollups(
    since: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], help="The first day (UTC) of arrival to do anew.")
    ],
) -> None:
    """Make the rollups of DATABASE_URL again from the reports that are kept.

    A worker makes them, if one runs. Till then metrics are answered from the reports themselves: rightly, but
    slowly.
    """
    from domain.errors import DatabaseError
    from storage.database import Database
    from storage.rollups import rebuild

    async def forget() -> None:
        connection = await Database(_database_url("rebuild-rollups")).connect()
        try:
            await rebuild(connection, since.replace(tzinfo=UTC))
        finally:
            await connection.close()

    try:
        asyncio.run(forget())
    except DatabaseError as error:
        typer.echo(f"db rebuild-rollups: {error.message}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"rollups since {since:%Y-%m-%d} are to be made again by the workers", err=True)


def _database_url(command: str) -> str:
    try:
        settings = load()
        require(settings, "database_url")
    except SettingsError as error:
        typer.echo(f"db {command}: {error}", err=True)
        raise typer.Exit(2) from None
    return settings.database_url or ""
