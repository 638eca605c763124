"""`llm-optimizer replay`: traffic from files against a server, and what the optimizer made of it."""

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from llm_auto_optimizer import ConflictError, ForbiddenError, NoAnswerError, OptimizerError, UnauthorizedError

from cli.replaying import ReplayError, ReplayOptions, ReplayReport, run_replay
from cli.replaying.display import print_report, progress_view, report_console
from cli.replaying.options import DEFAULT_SPEED, parse_models, with_latency
from cli.replaying.setup import read_policy

_REMEDIES = {
    ConflictError: "End the other rollout first: POST /api/v1/deployments/{id}/abort.",
    UnauthorizedError: "Set OPTIMIZER_API_KEY to a key with the scope admin.",
    ForbiddenError: "Set OPTIMIZER_API_KEY to a key with the scope admin.",
    NoAnswerError: "Start a server there with `llm-optimizer dev`, or name another with --endpoint.",
}


def replay(
    arrivals: Annotated[Path, typer.Option(help="CSV: TIMESTAMP, ContextTokens, GeneratedTokens.")],
    outcomes: Annotated[Path, typer.Option(help="CSV: promptTokens, then <NAME>Tokens and <NAME>Correct.")],
    model: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=provider/model", help="A model of the outcomes; the first is the incumbent."
        ),
    ],
    policy: Annotated[Path, typer.Option(help="The service's policy, JSON or YAML.")],
    service: Annotated[str, typer.Option(help="The service that the traffic is for.")] = "replay",
    endpoint: Annotated[str, typer.Option(help="The server's address.")] = "http://127.0.0.1:8080",
    speed: Annotated[
        float, typer.Option(min=0.01, help="How many times as fast time runs, the rollout's steps included.")
    ] = DEFAULT_SPEED,
    seed: Annotated[int, typer.Option(help="Chooses which question goes with which arrival.")] = 1,
    latency: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=MS:TOKENS",
            help="A model's time to first token, and its tokens per second after it.",
        ),
    ] = None,
    temporal_ui: Annotated[
        str | None,
        typer.Option(envvar="OPTIMIZER_TEMPORAL_UI", help="The Temporal UI's address, to point to."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Drive a server with recorded traffic, and report what the optimizer decided and saved.

    The key comes from OPTIMIZER_API_KEY and needs the scope admin, since the
    service's policy is set.

    ARRIVALS says when requests came: a CSV file with the columns TIMESTAMP
    (ISO 8601), ContextTokens (tokens of the prompt) and GeneratedTokens
    (tokens of the answer). When it ends before the rollout does, it starts
    again.

    OUTCOMES says how each model answers: a CSV file, a question per row, with
    the column promptTokens, and for each model's NAME the columns <NAME>Tokens
    (tokens of its answer, at least 1) and <NAME>Correct (1: a quality of 100;
    0: of 0). Each arrival is given a question; the tokens of its answer are
    scaled by the model's tokens over the incumbent's. Latency, which no file
    has, is modelled: time to first token, plus tokens over decoding speed.

    Exit code 0: the replay ran to its end, whatever the decision. 1: it did
    not, and says why.
    """
    try:
        options = ReplayOptions(
            arrivals=arrivals,
            outcomes=outcomes,
            models=with_latency(parse_models(model), latency or []),
            policy=read_policy(policy),
            service=service,
            endpoint=endpoint,
            speed=speed,
            seed=seed,
            temporal_ui=temporal_ui,
        )
        with progress_view() as view:
            report = run_replay(options, view)
    except (ReplayError, OptimizerError, ValueError) as error:
        _fail(error)
    except KeyboardInterrupt:
        typer.echo("replay: interrupted; what it started on the server goes on without it", err=True)
        raise typer.Exit(130) from None
    show(report, as_json=as_json)
    if not report.ended:
        raise typer.Exit(1)


def show(report: ReplayReport, *, as_json: bool) -> None:
    """Prints a report on stdout."""
    if as_json:
        json.dump(report.to_json(), sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        print_report(report, report_console())


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"replay: {error}", err=True)
    for kind, remedy in _REMEDIES.items():
        if isinstance(error, kind):
            typer.echo(remedy, err=True)
    raise typer.Exit(1)
