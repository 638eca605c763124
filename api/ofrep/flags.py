"""The flags of a service, `llm.<service>.<name>`, read off the answers of its configuration's reads."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from api.configs.reader import ConfigReader, ReadTarget, target_of
from api.configs.rendering import Rendered
from domain.errors import InvalidRequest, NotFound
from domain.scope import parse_scope
from domain.serving import ServingTable

Flag = dict[str, Any]

_FIELDS = {"model": "model", "temperature": "temperature", "max_tokens": "maxTokens"}
_NAMES = ("config", *_FIELDS)


def evaluate(reader: ConfigReader, key: str, unit: str | None) -> Flag:
    """One flag for a unit; without a unit the answer draws by the share of a rollout.

    Raises:
        NotFound: there is no such flag, or its service serves nothing.
    """
    service, name = _parts(key)
    if service is None:
        raise NotFound(f"no flag {key!r}: flags are llm.<service>.{{{','.join(_NAMES)}}}")
    try:
        target = target_of(service, None, unit)
    except InvalidRequest as error:
        raise NotFound(f"no flag {key!r}: {error.message}") from error
    return _flag(service, name, msgspec.json.decode(reader.read(target).body))


def service_of(key: str) -> str | None:
    """The service whose flag a key names, None where it is no flag of ours."""
    return _parts(key)[0]


def _parts(key: str) -> tuple[str | None, str]:
    prefix, _, rest = key.partition(".")
    service, _, name = rest.rpartition(".")
    return (service, name) if prefix == "llm" and service and name in _NAMES else (None, name)


@dataclass(frozen=True, slots=True)
class Selection:
    """What a unit is served by every service with a configuration or rollout of its own, and `global`."""

    served: tuple[tuple[str, Rendered], ...]

    @property
    def etag(self) -> str:
        """A strong tag, another one whenever any flag is."""
        tags = "\n".join(f"{service} {rendered.etag}" for service, rendered in self.served)
        return f'"{hashlib.sha256(tags.encode()).hexdigest()[:32]}"'

    def flags(self) -> list[Flag]:
        """All flags, by service."""
        return [flag for service, rendered in self.served for flag in _flags(service, rendered)]


def select(reader: ConfigReader, serving: ServingTable, unit: str) -> Selection:
    """What the unit is served at present."""
    return Selection(tuple((service, reader.read(target)) for service, target in _targets(serving, unit)))


def lapses_in(reader: ConfigReader, serving: ServingTable, unit: str) -> float | None:
    """In how many seconds a selection changes by itself unless a watch is renewed; None where it does not."""
    lapses = (reader.lapses_in(target) for _, target in _targets(serving, unit))
    return min((lapse for lapse in lapses if lapse is not None), default=None)


def _targets(serving: ServingTable, unit: str) -> Iterator[tuple[str, ReadTarget]]:
    for name in sorted({*serving.active, *serving.canaries}):
        if parse_scope(name).endpoint is None:
            yield name, target_of(name, None, unit)


def _flags(service: str, rendered: Rendered) -> Iterable[Flag]:
    answer = msgspec.json.decode(rendered.body)
    return (_flag(service, name, answer) for name in _NAMES)


def _flag(service: str, name: str, answer: dict[str, Any]) -> Flag:
    config, rollout = answer["config"], answer.get("rollout")
    value = config if name == "config" else config[_FIELDS[name]]
    metadata: dict[str, Any] = {"service": service}
    if rollout is not None:
        metadata |= {
            "deploymentId": rollout["deploymentId"],
            "trafficPercent": rollout["trafficPercent"],
            "watchedUntil": rollout["watchedUntil"],
        }
    return {
        "key": f"llm.{service}.{name}",
        # Clients tell a float from an integer by its point.
        "value": float(value) if name == "temperature" else value,
        "reason": "STATIC" if rollout is None else "SPLIT",
        "variant": answer["version"],
        "metadata": metadata,
    }
