"""Scopes (`global`, a service, `<service>:<endpoint>`) and versions (`<scope>@<n>`)."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import StringConstraints

from domain.errors import InvalidRequest

GLOBAL = "global"
SERVICE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_SERVICE = re.compile(SERVICE_PATTERN)
_ENDPOINT_LIMIT = 256

ServiceName = Annotated[str, StringConstraints(pattern=SERVICE_PATTERN)]
EndpointName = Annotated[str, StringConstraints(min_length=1, max_length=_ENDPOINT_LIMIT)]
ScopeName = Annotated[
    str,
    StringConstraints(pattern=rf"{SERVICE_PATTERN.removesuffix('$')}(:[\s\S]{{1,{_ENDPOINT_LIMIT}}})?$"),
]


@dataclass(frozen=True, slots=True)
class Scope:
    """What a configuration applies to. `service` is None for the global scope."""

    service: str | None = None
    endpoint: str | None = None

    def __str__(self) -> str:
        if self.service is None:
            return GLOBAL
        return self.service if self.endpoint is None else f"{self.service}:{self.endpoint}"

    @property
    def parents(self) -> tuple["Scope", ...]:
        """The scopes from which this one inherits, the nearest first."""
        if self.service is None:
            return ()
        return (Scope(),) if self.endpoint is None else (Scope(self.service), Scope())


def scope_of(service: str | None, endpoint: str | None = None) -> Scope:
    """The scope named by a request's `service` and `endpoint`.

    Raises:
        InvalidRequest: an endpoint without a service, or a name that is not allowed.
    """
    if service is None or service == GLOBAL:
        if endpoint is not None:
            raise InvalidRequest("endpoint needs a service")
        return Scope()
    if not _SERVICE.fullmatch(service):
        raise InvalidRequest(f"service {service!r} must match {SERVICE_PATTERN}")
    if endpoint is not None and not 0 < len(endpoint) <= _ENDPOINT_LIMIT:
        raise InvalidRequest(f"endpoint must have 1 to {_ENDPOINT_LIMIT} characters")
    return Scope(service, endpoint)


def parse_scope(text: str) -> Scope:
    """The inverse of `str(scope)`."""
    service, _, endpoint = text.partition(":")
    return scope_of(service, endpoint or None)


def version_name(scope: str, number: int) -> str:
    """The name of a scope's n-th version."""
    return f"{scope}@{number}"


def scope_of_version(version: str) -> str:
    """The scope that a version belongs to. An endpoint may itself hold an `@`."""
    return version.rpartition("@")[0]
