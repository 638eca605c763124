"""Plain batches taken ahead of the framework, which costs more than a batch of a hundred reports."""

from dataclasses import dataclass

from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.context import API_PREFIX
from api.failures import on_http_exception, on_optimizer_error
from api.idempotency import KEY, claim_of, json_answer
from api.reports.endpoints import router
from api.reports.taking import Take, take_metrics, take_quality
from api.server import Server
from domain.errors import OptimizerError
from storage.intake import Ack
from storage.keys import Principal

_TAKES: dict[str, Take] = {f"{API_PREFIX}/metrics": take_metrics, f"{API_PREFIX}/quality": take_quality}
_ROUTES = {f"{API_PREFIX}{route.path}": route for route in router.routes if isinstance(route, APIRoute)}
_ACKS: dict[bytes, Ack] = {b"": "commit", b"ack=commit": "commit", b"ack=buffer": "buffer"}
_PLAIN = "plain_report"


@dataclass(frozen=True, slots=True)
class _Plain:
    principal: Principal
    ack: Ack
    key: str | None


class ReportShortcut:
    """Takes a plain batch by a key that may report; whatever else there is to say is left to the routes.

    The application that answers is to be called within the same `RequestContext` as the framework.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def takes(self, scope: Scope) -> bool:
        """Whether a request is one for this."""
        if scope["type"] != "http" or scope["path"] not in _TAKES or scope["method"] != "POST":
            return False
        ack = _ACKS.get(scope["query_string"])
        headers = dict(scope["headers"])
        plain_headers = (
            len(headers) == len(scope["headers"])
            and headers.get(b"content-type") == b"application/json"
            and b"content-encoding" not in headers
        )
        key = headers.get(b"idempotency-key", b"x").decode("latin-1")
        if ack is None or not plain_headers or not KEY.match(key):
            return False
        principal = self._server.authenticator.from_header(headers.get(b"authorization", b""))
        if principal is None or not principal.may("ingest"):
            return False
        scope[_PLAIN] = _Plain(principal, ack, key if b"idempotency-key" in headers else None)
        return True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer such a request."""
        scope["route"] = _ROUTES[scope["path"]]
        request = Request(scope, receive)
        try:
            response: Response = await self._answer(request, scope[_PLAIN])
        except OptimizerError as error:
            response = await on_optimizer_error(request, error)
        except HTTPException as error:
            response = await on_http_exception(request, error)
        await response(scope, receive, send)

    async def _answer(self, request: Request, plain: _Plain) -> Response:
        await self._server.limiter.admit(request, "reports", plain.principal.id)
        claim = await claim_of(request, plain.principal, plain.key)
        take = _TAKES[request.scope["path"]]
        return json_answer(await take(self._server, await request.body(), claim, plain.ack))
