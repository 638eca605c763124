"""`llm-optimizer`: every command, each loaded once it is asked for: some need much, and most need little."""

from importlib import import_module
from importlib.metadata import version
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

# In the order of the help. Each is a function, or an application, in the module of its name.
COMMANDS = (
    *("dev", "serve", "worker", "sidecar", "replay", "judge", "detect", "suggest", "backtest", "demo"),
    *("openapi", "db"),
)


class Commands(TyperGroup):
    """The commands by name."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command, None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"cli.{cmd_name}")
        group = getattr(module, "app", None)
        if group is None:
            group = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
            group.command(cmd_name)(getattr(module, cmd_name))
        command = get_command(group)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=Commands,
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
