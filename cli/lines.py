"""JSON lines in and out, for the commands that try the product's decisions on anybody's own numbers."""

from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import typer
from pydantic import ValidationError
from pydantic_core import to_json


def answer_lines(file: BinaryIO, answer: Callable[[bytes], dict[str, Any]]) -> None:
    """Print an answer for each line of input, at once; blank lines are skipped.

    A line for which `answer` raises a ValueError is answered with `{"error": "..."}`, and the exit code is 1
    at the end.
    """
    failed = False
    # A BufferedReader's own iteration hands out a line as soon as it is there.
    for line in (line for line in file if line.strip()):
        try:
            found = answer(line)
        except ValidationError as error:
            found, failed = {"error": described(error)}, True
        except ValueError as error:
            found, failed = {"error": str(error)}, True
        typer.echo(to_json(found))
    if failed:
        raise typer.Exit(1)


def described(error: ValidationError) -> str:
    """Every fault with the place that it is in."""
    return "; ".join(_problems(error))


def _problems(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"])
        yield f"{where}: {problem['msg']}" if where else problem["msg"]
