"""`/services`: what each service is to be improved for, within which bounds, and how."""

from fastapi import APIRouter
from pydantic import ValidationError

from api.auth import Reader
from api.body import StrictRoute
from api.commands import AdminActor
from api.errors import invalid_request
from api.paging import PageQuery
from api.server import Server, ServerDep
from api.services.rules import require_sound
from domain.base import Message
from domain.config import Name
from domain.decision.contradictions import contradictions
from domain.errors import InvalidRequest
from domain.policy import ServicePolicy
from domain.scope import GLOBAL, ServiceName
from storage import audit, services
from storage.tables import Service

router = APIRouter(prefix="/services", tags=["services"], route_class=StrictRoute)


class PolicyRequest(ServicePolicy):
    """A policy; what is left out takes its default. `service`, where given, must be that of the address."""

    service: Name = ""


class ServiceList(Message):
    """A page of services by name, and how many there are."""

    total: int
    services: list[ServicePolicy]


@router.get("", response_model_exclude_none=True)
async def list_services(server: ServerDep, _: Reader, page: PageQuery) -> ServiceList:
    """Every known service with its policy."""
    async with server.database.transaction() as session:
        total, rows = await services.list_services(session, limit=page.limit, offset=page.offset)
    return ServiceList(total=total, services=[_policy(server, row) for row in rows])


@router.get("/{service}", response_model_exclude_none=True)
async def get_service(server: ServerDep, _: Reader, service: ServiceName) -> ServicePolicy:
    """A service's policy, every default filled in."""
    async with server.database.transaction() as session:
        return _policy(server, await services.get(session, service))


@router.put("/{service}", response_model_exclude_none=True)
async def put_service(
    server: ServerDep, actor: AdminActor, service: ServiceName, body: PolicyRequest
) -> ServicePolicy:
    """Replace a service's policy, and make the service known. A run that has begun keeps the old one.

    Rules and triggers are looked through for what could never hold or never be done.
    """
    if service == GLOBAL:
        raise InvalidRequest(f"service: {GLOBAL!r} is reserved")
    if body.service not in ("", service):
        raise InvalidRequest(f"service: {body.service!r} is not the {service!r} of the address")
    against = contradictions(body.constraints)
    if against:
        raise InvalidRequest(f"constraints: {against[0]}", details=against)
    try:
        policy = ServicePolicy.model_validate({**body.given(), "service": service})
    except ValidationError as error:
        raise invalid_request(error) from error
    async with server.database.transaction() as session:
        await require_sound(session, policy)
        await services.put_policy(session, policy)
        given = sorted(policy.given().keys() - {"service"})
        audit.record(session, actor, "service.policy", service, {"given": given})
        row = await services.get(session, service)
    await server.refresh()
    return _policy(server, row)


def _policy(server: Server, row: Service) -> ServicePolicy:
    return services.resolve(row.name, row.policy, step_seconds=server.step_seconds)
