"""`/ofrep/v1`: flags evaluated one by one or all at once, and word of when to ask again."""

import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.auth import ConfigReader, Reader
from api.body import StrictRoute
from api.configs.rendering import MAX_UNIT, matches
from api.ofrep.errors import TargetingKeyMissing
from api.ofrep.flags import evaluate, lapses_in, select
from api.ofrep.schemas import BulkEvaluation, EvaluationRequest, FlagEvaluation
from api.server import ServerDep
from api.streaming import StreamDep

PREFIX = "/ofrep/v1"

router = APIRouter(prefix=PREFIX, tags=["ofrep"], route_class=StrictRoute)

_JSON = "application/json"
_UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "The caller has the present flags."}}


@router.post("/evaluate/flags/{key}", response_model=FlagEvaluation)
async def evaluate_flag(server: ServerDep, _: ConfigReader, key: str, body: EvaluationRequest) -> Response:
    """One flag: `llm.<service>.config`, `.model`, `.temperature` or `.max_tokens`."""
    flag = evaluate(server.configs, key, _unit(body))
    return Response(msgspec.json.encode(flag), media_type=_JSON)


@router.post("/evaluate/flags", response_model=BulkEvaluation, responses=_UNCHANGED)
async def evaluate_flags(
    request: Request,
    server: ServerDep,
    _: Reader,
    body: EvaluationRequest,
    if_none_match: Annotated[str | None, Header(description="The ETag that the caller has.")] = None,
    flag_config_etag: Annotated[
        str | None, Query(alias="flagConfigEtag", description="`etag` of the event that made the caller ask.")
    ] = None,
    _last_modified: Annotated[
        str | None,
        Query(alias="flagConfigLastModified", description="`lastModified` of that event; decides nothing."),
    ] = None,
) -> Response:
    """Every flag of `global` and of each service with a configuration or a rollout of its own."""
    # A draw by the share is the assignment of a unit drawn at random; so all of a service's flags agree.
    unit = _unit(body) or secrets.token_hex(16)
    found = select(server.configs, server.snapshot.current.serving, unit)
    if flag_config_etag not in (None, found.etag):
        # The event may be another replica's, which saw the change first.
        await server.refresh()
        found = select(server.configs, server.snapshot.current.serving, unit)
    headers = {"ETag": found.etag}
    as_told = flag_config_etag in (None, found.etag)
    if as_told and if_none_match is not None and matches(if_none_match, found.etag):
        return Response(status_code=304, headers=headers)
    query = urlencode({"targetingKey": unit, "etag": found.etag})
    stream = {"type": "sse", "url": f"{request.base_url}{PREFIX[1:]}/stream?{query}"}
    answer = {"flags": found.flags(), "metadata": {}, "eventStreams": [stream]}
    return Response(msgspec.json.encode(answer), media_type=_JSON, headers=headers)


@router.get("/stream", response_class=EventSourceResponse)
async def stream_refetches(
    stream: StreamDep,
    targeting_key: Annotated[
        str, Query(alias="targetingKey", min_length=1, max_length=MAX_UNIT, description="The unit.")
    ],
    etag: Annotated[str | None, Query(description="Of the flags that the caller has.")] = None,
    last_event_id: Annotated[
        str | None, Header(description="Of the last event seen, after a lost connection; beats `etag`.")
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """`refetchEvaluation` whenever the unit's flags are others than the caller's, within a second."""
    reader, snapshot, known = stream.server.configs, stream.server.snapshot, last_event_id or etag
    while stream.open:
        changed = snapshot.changed.next()
        serving = snapshot.current.serving
        present = select(reader, serving, targeting_key).etag
        lapse = lapses_in(reader, serving, targeting_key)
        if known is not None and present != known:
            # OFREP counts time in seconds.
            told = {"type": "refetchEvaluation", "etag": present, "lastModified": int(time.time())}
            yield ServerSentEvent(id=present, raw_data=msgspec.json.encode(told).decode())
        known = present
        await stream.wait(changed, seconds=lapse)


def _unit(body: EvaluationRequest) -> str | None:
    unit = body.context.targeting_key
    if unit == "":
        raise TargetingKeyMissing("targetingKey is empty: leave it out to have the answer draw")
    return unit
