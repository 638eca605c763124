"""`/config`: what is served, changes by hand, versions."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api.auth import ConfigReader, Reader
from api.body import StrictRoute
from api.commands import WriteCommand
from api.configs.reader import ReadTarget, target_of
from api.configs.rendering import READ, IfNoneMatch, Unit, respond
from api.configs.schemas import (
    ConfigDiff,
    ConfigResponse,
    ConfigRollbackRequest,
    ConfigUpdateRequest,
    ConfigUpdateResponse,
    ConfigVersionList,
    ConfigVersionResponse,
    FieldChange,
    ServiceConfigResponse,
)
from api.configs.stream import follow
from api.configs.updates import Update, wanted_by_rollback, wanted_by_update
from api.idempotency import json_answer
from api.paging import PageQuery
from api.server import ServerDep
from api.streaming import StreamDep
from domain.config import LLMConfig
from domain.config_diff import differences
from domain.scope import EndpointName, ServiceName, scope_of
from storage import configs
from storage.tables import ConfigVersion

router = APIRouter(prefix="/config", tags=["config"], route_class=StrictRoute)

IfMatch = Annotated[
    str | None,
    Header(min_length=1, description="An ETag of a read or a version: change nothing if another is served."),
]


@router.get("/current", response_model=ConfigResponse, responses=READ)
async def get_current_config(
    server: ServerDep, _: ConfigReader, unit: Unit = None, if_none_match: IfNoneMatch = None
) -> Response:
    """The global configuration. Without a unit each answer draws by the share of a rollout that runs."""
    return respond(server.configs.read(target_of(None, None, unit)), if_none_match)


@router.get("/service/{service}", response_model=ServiceConfigResponse, responses=READ)
async def get_service_config(
    server: ServerDep,
    _: ConfigReader,
    service: ServiceName,
    endpoint: EndpointName | None = None,
    unit: Unit = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The configuration of a service, or of one of its endpoints; its own or what it inherits."""
    return respond(server.configs.read(target_of(service, endpoint, unit)), if_none_match)


def _target(
    server: ServerDep,
    service: ServiceName | None = None,
    endpoint: EndpointName | None = None,
    unit: Unit = None,
) -> ReadTarget:
    target = target_of(service, endpoint, unit)
    server.configs.read(target)
    return target


@router.get("/stream", response_class=EventSourceResponse)
async def stream_config(
    stream: StreamDep, target: Annotated[ReadTarget, Depends(_target)]
) -> AsyncIterator[ServerSentEvent]:
    """`event: config` with the answer of the read, at once and at each change, within a second."""
    async for rendered in follow(stream, target):
        yield ServerSentEvent(event="config", raw_data=rendered.body.decode())


@router.post("/update", response_model=ConfigUpdateResponse, response_model_exclude_none=True)
async def update_config(
    server: ServerDep, command: WriteCommand, body: ConfigUpdateRequest, if_match: IfMatch = None
) -> JSONResponse:
    """Change a scope's configuration, by a rollout unless it is its first."""
    return json_answer(await Update(server, command, wanted_by_update(body), if_match).carry_out())


@router.post("/rollback", response_model=ConfigUpdateResponse, response_model_exclude_none=True)
async def roll_back_config(
    server: ServerDep, command: WriteCommand, body: ConfigRollbackRequest, if_match: IfMatch = None
) -> JSONResponse:
    """Have a version's scope serve its content again, as a new version, by a rollout like any other."""
    async with server.database.transaction() as session:
        wanted = wanted_by_rollback(body, await configs.get_version(session, body.version))
    return json_answer(await Update(server, command, wanted, if_match).carry_out())


@router.get("/diff", response_model_exclude_unset=True)
async def diff_configs(
    server: ServerDep,
    _: Reader,
    from_: Annotated[str, Query(alias="from", description="A version.")],
    to: Annotated[str, Query(description="A version, of the same scope or of another.")],
) -> ConfigDiff:
    """What differs from one version to another, field by field."""
    async with server.database.transaction() as session:
        old, new = [await configs.get_version(session, version) for version in (from_, to)]
    changes = differences(LLMConfig.model_validate(old.config), LLMConfig.model_validate(new.config))
    found = [FieldChange.model_validate({"field": field, **sides}) for field, sides in changes]
    return ConfigDiff.model_validate({"from": old.version, "to": new.version, "changes": found})


@router.get("/versions", response_model_exclude_none=True)
async def list_config_versions(
    server: ServerDep,
    _: Reader,
    page: PageQuery,
    service: ServiceName | None = None,
    endpoint: EndpointName | None = None,
) -> ConfigVersionList:
    """Every version, or a scope's, the newest first."""
    scope = str(scope_of(service, endpoint)) if service is not None or endpoint is not None else None
    async with server.database.transaction() as session:
        total, rows = await configs.list_versions(session, scope, limit=page.limit, offset=page.offset)
    return ConfigVersionList(total=total, versions=[_version(row) for row in rows])


@router.get("/versions/{version:path}", response_model_exclude_none=True)
async def get_config_version(server: ServerDep, _: Reader, version: str) -> ConfigVersionResponse:
    """One version, `<scope>@<n>`, percent-encoded."""
    async with server.database.transaction() as session:
        return _version(await configs.get_version(session, version))


def _version(row: ConfigVersion) -> ConfigVersionResponse:
    return ConfigVersionResponse.model_validate(
        {
            "version": row.version,
            "scope": row.scope,
            "config": row.config,
            "createdAt": row.created_at,
            "createdBy": row.created_by,
            "changeType": row.change_type,
            "reason": row.reason,
            "deploymentId": row.deployment_id,
            "derivedFrom": row.derived_from,
        }
    )
