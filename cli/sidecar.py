"""`llm-optimizer sidecar`."""

import asyncio
import sqlite3
from importlib.metadata import version
from typing import Annotated

import typer

from cli import logs
from cli.listening import address_of, bind_loopback
from cli.running import run as run_loop
from cli.running import stop_requested
from cli.settings import Settings, SettingsError, load

FOLDER, SPOOL = "sidecar", "spool.db"


def sidecar(
    upstream: Annotated[str | None, typer.Option(help="The server's address.")] = None,
    port: Annotated[int | None, typer.Option(help="The port on loopback; 0 takes a free one [9090].")] = None,
    service: Annotated[
        str | None, typer.Option(help="Whose configuration /config/current tells [global].")
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(help="Where reports and configurations are kept, in a folder `sidecar`.")
    ] = None,
) -> None:
    """Serve configurations and take reports beside an application, whether or not the server is there.

    Listens on loopback alone and asks for no key; OPTIMIZER_API_KEY is its own towards the server, with the
    scopes ingest and read. Each sidecar of a machine needs a data folder of its own.
    """
    given = {"upstream": upstream, "port": port, "service": service}
    try:
        settings = load(
            sidecar={name: value for name, value in given.items() if value is not None}, data_dir=data_dir
        )
        if settings.sidecar.upstream is None:
            raise SettingsError("--upstream or OPTIMIZER_SIDECAR__UPSTREAM must be given")
    except SettingsError as error:
        typer.echo(f"sidecar: {error}", err=True)
        raise typer.Exit(2) from None
    logs.set_up(settings.log_level)
    raise typer.Exit(run_loop(_run(settings, settings.sidecar.upstream)))


async def _run(settings: Settings, upstream: str) -> int:
    # Imported here, so that no other command waits for it.
    from api.serve import server_for
    from api.sidecar.app import create_sidecar
    from api.sidecar.spool import Bounds, InUse
    from api.sidecar.writer import Writer

    stopped = stop_requested()
    wanted = settings.sidecar
    try:
        listeners = bind_loopback(wanted.port)
    except OSError as error:
        typer.echo(f"sidecar: port {wanted.port}: {error.strerror}", err=True)
        return 1
    path = settings.data_dir / FOLDER / SPOOL
    try:
        writer = await Writer.open(path, Bounds(wanted.spool_items, wanted.spool_bytes))
    except (InUse, OSError, sqlite3.Error) as error:
        typer.echo(f"sidecar: {path}: {error}", err=True)
        return 1
    key = settings.api_key
    app = create_sidecar(
        upstream,
        writer,
        version=version("llm-auto-optimizer-server"),
        api_key=key.get_secret_value() if key else None,
        service=wanted.service,
    )
    server = server_for(app)
    task = asyncio.create_task(server.serve(sockets=listeners))
    up, asked = asyncio.create_task(server.up.wait()), asyncio.create_task(stopped.wait())
    await asyncio.wait((up, task), return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        typer.echo(f"sidecar of {upstream} at {address_of(listeners[0])}", err=True)
    await asyncio.wait((asked, task), return_when=asyncio.FIRST_COMPLETED)
    ended = task.done()
    for waiting in (up, asked):
        waiting.cancel()
    server.should_exit = True
    await asyncio.gather(task, return_exceptions=True)
    return 1 if ended else 0
