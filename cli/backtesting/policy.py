"""The policy of a backtest, from a file."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from domain.policy import ServicePolicy
from storage.services import resolve


class PolicyError(ValueError):
    """The file is no policy; the message names the field."""


def read_policy(path: Path, service: str, *, step_seconds: float) -> ServicePolicy:
    """A service's policy as `PUT /services/{name}` would take it from the file: what is left out of it is at
    its default, whatever the service has at present.

    Raises:
        PolicyError: the file cannot be read, is no JSON or YAML object, or a field is wrong, which is named.
    """
    given = _read(path)
    named = given.pop("service", service)
    if named != service:
        raise PolicyError(f"{path}: service: is {named!r}, not {service!r}")
    if not isinstance(given.get("rollout", {}), dict):
        raise PolicyError(f"{path}: rollout: not an object")
    try:
        # First as it is: filling in what was left out must not hide that a field is of the wrong kind.
        ServicePolicy.model_validate(given | {"service": service})
        return resolve(service, given, step_seconds=step_seconds)
    except ValidationError as error:
        raise PolicyError(f"{path}: {'; '.join(_faults(error))}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise PolicyError(f"{path}: neither JSON nor YAML: {error}") from error
    if not isinstance(given, dict):
        raise PolicyError(f"{path}: not an object")
    return given


def _faults(error: ValidationError) -> Iterable[str]:
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"])
        yield f"{where}: {fault['msg']}" if where else fault["msg"]
