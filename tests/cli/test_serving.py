"""A server takes over the webhooks of its settings' file when it starts."""

from pathlib import Path

import httpx
import pytest

from cli.listening import address_of, bind
from cli.serving import serving
from cli.settings import load
from infra.embedded import EmbeddedStack
from storage.database import Database
from tests.storage.hooks import open_webhook
from tests.waiting import until

ONE, TWO = "https://one.example/hook", "https://two.example/hook"


async def listed(stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch, file: Path, *urls: str) -> None:
    """Start a server with the file, which must come to list these and no others."""
    monkeypatch.setenv("OPTIMIZER_CONFIG", str(file))
    settings = load(
        database_url=stack.database_url, temporal_address=stack.temporal_address, api_key="key", port=0
    )
    listener = bind(settings.host, settings.port)
    headers = {"Authorization": "Bearer key"}
    async with (
        serving(settings, listener, None),
        httpx.AsyncClient(base_url=address_of(listener), headers=headers) as client,
    ):

        async def as_wanted() -> bool:
            answer = await client.get("/api/v1/webhooks")
            return {webhook["url"] for webhook in answer.json()["webhooks"]} == set(urls)

        await until(as_wanted)


async def test_the_webhooks_of_the_file_are_taken_over_and_given_up_with_it(
    stack: EmbeddedStack, database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = (await open_webhook(database)).url
    file = tmp_path / "optimizer.yaml"
    file.write_text(f"webhooks:\n- url: {ONE}\n- url: {TWO}\n  events: [config.changed]\n")
    await listed(stack, monkeypatch, file, own, ONE, TWO)
    file.write_text(f"webhooks:\n- url: {TWO}\n")
    await listed(stack, monkeypatch, file, own, TWO)
    file.write_text("log_level: error\n")
    await listed(stack, monkeypatch, file, own)
