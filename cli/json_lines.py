"""Commands that read JSON lines and answer each with one."""

from collections.abc import Callable
from typing import Any, BinaryIO

import typer
from pydantic import ValidationError
from pydantic_core import to_json

MOST_PROBLEMS = 5


def answer_each(file: BinaryIO, answer: Callable[[bytes], dict[str, Any]]) -> None:
    """Print the answer to each line of a file as soon as there is one; blank lines are skipped.

    A ValueError becomes `{"error": "..."}`.

    Raises:
        typer.Exit: with 1 at the end, if an answer was an error.
    """
    failed = False
    # A BufferedReader's own iteration hands out a line as soon as it is there.
    for line in file:
        if not line.strip():
            continue
        try:
            given = answer(line)
        except ValueError as error:
            given = {"error": described(error)}
        failed = failed or "error" in given
        typer.echo(to_json(given))
    if failed:
        raise typer.Exit(1)


def described(error: ValueError) -> str:
    """What is wrong, in a line; of a message's problems the first five."""
    if not isinstance(error, ValidationError):
        return str(error)
    problems = error.errors(include_url=False)
    told = []
    for problem in problems[:MOST_PROBLEMS]:
        where = ".".join(str(part) for part in problem["loc"])
        told.append(f"{where}: {problem['msg']}" if where else problem["msg"])
    if len(problems) > MOST_PROBLEMS:
        told.append(f"and {len(problems) - MOST_PROBLEMS} more")
    return "; ".join(told)
