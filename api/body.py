"""Request bodies and queries, read strictly: what cannot be meant is refused."""

import json
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError

from api.errors import MalformedBody, UnsupportedMediaType, invalid_request
from domain.errors import InvalidRequest
from domain.numbers import number
from domain.reports import storable

MAX_DEPTH = 64


def parse_json(body: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        MalformedBody: it is not JSON, holds NaN or an infinity, names a field twice, nests too deeply, or
            holds text that cannot be stored.
    """
    try:
        value = json.loads(
            body.decode(), parse_float=number, parse_constant=_refuse, object_pairs_hook=_object
        )
    except RecursionError as error:
        raise MalformedBody("the body is nested too deeply") from error
    except ValueError as error:
        raise MalformedBody(f"the body is not JSON: {error}") from error
    _require_sane(value, 0)
    return value


def require_json_type(request: Request) -> None:
    """Require a plain JSON body.

    Raises:
        UnsupportedMediaType: it is declared to be something else.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType(f"Content-Type must be application/json, not {kind or 'absent'}")
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType("Content-Encoding must be identity")


@runtime_checkable
class Requirement(Protocol):
    """A dependency that settles whether somebody may ask at all."""

    async def authorise(self, request: Request) -> object:
        """Raises an `OptimizerError` where not."""


class StrictRequest(Request):
    """A request whose JSON is read by `parse_json`."""

    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            self._json = parse_json(await self.body())
        return self._json


class StrictRoute(APIRoute):
    """A route that refuses query parameters that it does not know, and bodies that are not plain JSON.

    Whoever may not ask is told that first, and nothing of the request. Fields have one name, the camelCase
    one, though inside they may be given by ours as well.
    """

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle: Callable[[Request], Awaitable[Response]] = super().get_route_handler()
        known = frozenset(_query_names(self.dependant))
        required = list(_required(self.dependant))
        kind = self.body_field.field_info.annotation if self.body_field is not None else None
        body = None if kind is None else TypeAdapter[Any](kind)

        async def strictly(request: Request) -> Response:
            for requires in required:
                await requires.authorise(request)
            unknown = sorted(set(request.query_params) - known)
            if unknown:
                raise InvalidRequest(f"unknown query parameter {unknown[0]!r}")
            strict = StrictRequest(request.scope, request.receive)
            if body is not None and await strict.body():
                require_json_type(strict)
                _require_camel_case(body, await strict.json())
            return await handle(strict)

        return strictly


def _require_camel_case(body: TypeAdapter[Any], value: Any) -> None:
    try:
        body.validate_python(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise invalid_request(error) from error


def _required(dependant: Dependant) -> Iterator[Requirement]:
    if isinstance(dependant.call, Requirement):
        yield dependant.call
    for dependency in dependant.dependencies:
        yield from _required(dependency)


def _query_names(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        yield parameter.alias
    for dependency in dependant.dependencies:
        yield from _query_names(dependency)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for name, inner in pairs:
        if name in value:
            raise ValueError(f"{name!r} is given twice")
        value[name] = inner
    return value


def _require_sane(value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MalformedBody("the body is nested too deeply")
    match value:
        case str():
            if not storable(value):
                raise MalformedBody("NUL characters and lone surrogates cannot be kept")
        case float():
            if not math.isfinite(value):
                raise MalformedBody("a number is out of range")
        case dict():
            for name, inner in value.items():
                _require_sane(name, depth + 1)
                _require_sane(inner, depth + 1)
        case list():
            for inner in value:
                _require_sane(inner, depth + 1)
