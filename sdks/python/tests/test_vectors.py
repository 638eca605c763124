"""Both clients are held to the calls recorded from a server, as the SDKs of other languages are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llm_auto_optimizer import APIError, AsyncOptimizerClient, Config, OptimizerClient

from .conftest import Answer, Peer

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "requests.json").read_text(encoding="utf-8"))[
    "vectors"
]
KEY = "key-of-vectors"
# The calls that take one object or list, as it travels; the others take its fields as arguments.
WHOLE = ("reportMetrics", "reportMetricsBatch", "reportQuality")
KNOWN = (*WHOLE, "getConfig", "queryMetrics", "getHistory", "triggerOptimization", "getHealth", "getStatus")


def snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def call(client: Any, method: str, arguments: Any) -> Any:
    assert method in KNOWN, f"a vector calls {method}, which this test does not know"
    if method in WHOLE:
        return getattr(client, snake(method))(arguments)
    return getattr(client, snake(method))(**{snake(name): value for name, value in arguments.items()})


def assert_outcome(vector: Mapping[str, Any], result: Any) -> None:
    if "error" in vector:
        assert isinstance(result, APIError), result
        names = {"requestId": "request_id"}
        seen = {name: getattr(result, names.get(name, name)) for name in vector["error"]}
        assert seen == vector["error"]
        return
    if isinstance(result, Config):
        result = {"version": result.version, "config": result.to_dict()}
    assert {name: result[name] for name in vector["result"]} == vector["result"]


def assert_asked(vector: Mapping[str, Any], peer: Peer) -> None:
    assert len(peer.seen) == len(vector["exchanges"])
    for seen, exchange in zip(peer.seen, vector["exchanges"]):
        wanted = exchange["request"]
        query = {name: ",".join(values) for name, values in seen.query.items()}
        if vector["call"]["method"] == "getConfig":
            del query["unit"]  # this instance's own
        assert (seen.method, seen.path, query, seen.body) == (
            wanted["method"],
            wanted["path"],
            wanted["query"],
            wanted["body"],
        )
        assert {name: seen.headers.get(name) for name in wanted["headers"]} == wanted["headers"]
    keys = {seen.headers.get("idempotency-key") for seen in peer.seen}
    assert len(keys) == 1
    assert (keys != {None}) == (peer.seen[0].method == "POST")


@pytest.fixture(params=VECTORS, ids=lambda vector: vector["name"])
def vector(request: pytest.FixtureRequest, peer: Peer) -> dict[str, Any]:
    for exchange in request.param["exchanges"]:
        response = exchange["response"]
        headers = {name.title(): value for name, value in response["headers"].items()}
        peer.queued.append(Answer(response["body"], response["status"], headers))
    return request.param


def test_every_code_of_the_api_is_among_them() -> None:
    codes = {vector["error"]["code"] for vector in VECTORS if "error" in vector}
    assert codes == {error.code for error in APIError.__subclasses__()}


def test_the_client(vector: dict[str, Any], peer: Peer) -> None:
    with OptimizerClient(
        endpoint=peer.url, api_key=KEY, stream=False, retries=vector.get("retries", 3)
    ) as client:
        try:
            result = call(client, **vector["call"])
        except APIError as error:
            result = error
    assert_outcome(vector, result)
    assert_asked(vector, peer)


async def test_the_asynchronous_client(vector: dict[str, Any], peer: Peer) -> None:
    async with AsyncOptimizerClient(
        endpoint=peer.url, api_key=KEY, stream=False, retries=vector.get("retries", 3)
    ) as client:
        try:
            result = await call(client, **vector["call"])
        except APIError as error:
            result = error
    assert_outcome(vector, result)
    assert_asked(vector, peer)
