"""`llm-optimizer openapi`."""

import json
from importlib.metadata import version
from typing import NoReturn

import typer


def openapi() -> None:
    """Print the API's OpenAPI document."""
    # Imported here, so that no other command waits for it.
    from api.app import create_app
    from storage.database import Database

    nowhere = Database("postgresql://localhost/none")
    app = create_app(nowhere, _no_temporal, version=version("llm-auto-optimizer-server"))
    typer.echo(json.dumps(app.openapi(), indent=2, sort_keys=True, ensure_ascii=False))


async def _no_temporal() -> NoReturn:
    raise RuntimeError("the document needs no Temporal")
