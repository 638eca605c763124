"""`llm-optimizer`: every command."""

from importlib.metadata import version

import typer

from cli import db
from cli.backtest import backtest
from cli.demo import demo
from cli.detect import detect
from cli.dev import dev
from cli.judge import judge
from cli.openapi import openapi
from cli.replay import replay
from cli.serve import serve
from cli.sidecar import sidecar
from cli.suggest import suggest
from cli.worker import worker

app = typer.Typer(
    help="Finds better LLM configurations, rolls them out safely, takes them back when they harm.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("llm-auto-optimizer-server"))
        raise typer.Exit


@app.callback()
def main(
    show_version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True),
) -> None:
    """Finds better LLM configurations, rolls them out safely, takes them back when they harm."""


for command in (dev, serve, worker, sidecar, replay, judge, detect, suggest, backtest, demo, openapi):
    app.command()(command)
app.add_typer(db.app, name="db")
