"""Connecting to Temporal as the settings say."""

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from cli.settings import Settings


async def connect(settings: Settings, *, address: str, lazy: bool = False) -> Client:
    """A client. A lazy one connects at its first call, so that a server may be away at first."""
    key = settings.temporal_api_key
    return await Client.connect(
        address,
        namespace=settings.temporal_namespace,
        tls=settings.temporal_tls or key is not None,
        api_key=key.get_secret_value() if key else None,
        data_converter=pydantic_data_converter,
        lazy=lazy,
    )
