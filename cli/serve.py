"""`llm-optimizer serve`."""

import asyncio
from typing import Annotated

import typer

from cli import logs
from cli.listening import address_of, bind, bind_grpc, grpc_target
from cli.running import run as run_loop
from cli.running import stop_requested
from cli.settings import Settings, SettingsError, load, require


def serve(
    host: Annotated[str | None, typer.Option(help="The address to listen on [127.0.0.1].")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 takes a free one [8080].")] = None,
    grpc: Annotated[bool | None, typer.Option(help="Whether to serve gRPC as well [yes].")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC's port; 0 takes a free one [50051].")] = None,
) -> None:
    """Serve the API alone, against DATABASE_URL, REDIS_URL and TEMPORAL_ADDRESS; any number may run.

    The schema must be there: see `llm-optimizer db upgrade`. OPTIMIZER_API_KEY is accepted as an admin key.
    """
    try:
        settings = load(host=host, port=port, grpc=grpc, grpc_port=grpc_port)
        require(settings, "database_url", "temporal_address")
    except SettingsError as error:
        typer.echo(f"serve: {error}", err=True)
        raise typer.Exit(2) from None
    logs.set_up(settings.log_level)
    raise typer.Exit(run_loop(_run(settings)))


async def _run(settings: Settings) -> int:
    # Imported here, so that no other command waits for it.
    from cli.serving import serving

    stopped = stop_requested()
    port = settings.port
    try:
        listener = bind(settings.host, port)
        port = settings.grpc_port
        grpc = bind_grpc(settings)
    except OSError as error:
        typer.echo(f"serve: {settings.host}:{port}: {error.strerror}", err=True)
        return 1
    async with serving(settings, listener, grpc) as server:
        typer.echo(f"serving {address_of(listener)}", err=True)
        if grpc is not None:
            typer.echo(f"serving gRPC {grpc_target(settings.host, grpc.port)}", err=True)
        if settings.api_key is None:
            typer.echo("OPTIMIZER_API_KEY is not set: only stored keys are accepted", err=True)
        asked = asyncio.create_task(stopped.wait())
        await asyncio.wait((asked, server), return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        return 1 if server.done() else 0
