"""`llm-optimizer db`."""

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

    try:
        settings = load()
        require(settings, "database_url")
    except SettingsError as error:
        typer.echo(f"db upgrade: {error}", err=True)
        raise typer.Exit(2) from None
    upgrade_schema(settings.database_url or "")
    typer.echo("the schema is up to date", err=True)
