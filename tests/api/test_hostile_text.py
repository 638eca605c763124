"""Text that PostgreSQL cannot keep: the item of a batch that has it is named, the others are kept."""

import json
from typing import Any

import httpx
import pytest

from storage.database import Database
from tests.api.answers import done, refused
from tests.api.test_reports import METRICS, QUALITY, count, evaluation, metric

UNKEPT = ("a\0b", "\0", "lone \ud800", "\udfff\ud800")
JSON = {"Content-Type": "application/json"}
ITEMS: list[tuple[str, str, str, dict[str, Any], str]] = [
    (METRICS, "metrics", "metrics", metric(), "model"),
    (METRICS, "metrics", "metrics", metric(), "tags"),
    (METRICS, "metrics", "metrics", metric(), "errorType"),
    (QUALITY, "evaluations", "quality", evaluation(), "requestId"),
    (QUALITY, "evaluations", "quality", evaluation(), "evaluationMethod"),
]


@pytest.mark.parametrize("key", [None, "batch-1"])
@pytest.mark.parametrize(("path", "field", "table", "good", "name"), ITEMS)
async def test_an_item_with_it_is_named_and_the_others_are_kept(
    client: httpx.AsyncClient,
    database: Database,
    path: str,
    field: str,
    table: str,
    good: dict[str, Any],
    name: str,
    key: str | None,
) -> None:
    bad = [good | {name: {"team": text} if name == "tags" else text} for text in UNKEPT]
    batch = [good, *bad, good]
    headers = JSON if key is None else JSON | {"Idempotency-Key": key}
    answer = done(await client.post(path, content=json.dumps({field: batch}), headers=headers))
    assert (answer["accepted"], answer["rejected"]) == (2, len(bad))
    assert [error["index"] for error in answer["errors"]] == [1, 2, 3, 4]
    for error in answer["errors"]:
        assert error["reason"].startswith(f"{name}")
    assert await count(database, table) == 2


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xc0\x80"]
)
@pytest.mark.parametrize(("path", "field", "table", "good", "name"), ITEMS[:1] + ITEMS[3:4])
async def test_what_is_not_utf_8_is_refused_as_a_whole(
    client: httpx.AsyncClient,
    database: Database,
    path: str,
    field: str,
    table: str,
    good: dict[str, Any],
    name: str,
    text: bytes,
) -> None:
    batch = json.dumps({field: [good, good | {name: "TEXT"}]}).encode().replace(b"TEXT", text)
    answer = await client.post(path, content=batch, headers=JSON)
    refused(answer, 400, "INVALID_REQUEST")
    assert await count(database, table) == 0
