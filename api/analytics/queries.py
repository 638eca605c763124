"""Questions of the analytics endpoints as they stand in an address."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import ValidationError, WithJsonSchema

from api.errors import invalid_request
from domain.analytics import (
    LABELS,
    LATEST_MS,
    MAX_TAG_NAME,
    MAX_WINDOW_MS,
    MIN_INTERVAL_MS,
    Aggregation,
    MetricsQuery,
    TimeRange,
)
from domain.metrics import METRICS, SHORT_NAMES
from domain.reports import EARLIEST_MS
from domain.scope import SERVICE_PATTERN, scope_of


def _list_of(item: str) -> WithJsonSchema:
    """Each value is an item or several with commas between; an address has no null."""
    each = {"type": "string", "pattern": f"^({item})(,({item}))*$"}
    return WithJsonSchema({"type": "array", "items": each})


_METRIC_NAME = "|".join((*METRICS, *SHORT_NAMES)).replace(".", r"\.")
_DIMENSION = rf"{'|'.join(LABELS)}|tags\.[^,]{{1,{MAX_TAG_NAME}}}"
Services = Annotated[
    list[str] | None,
    _list_of(SERVICE_PATTERN[1:-1]),
    Query(description="Repeated or comma-separated; all, if left out."),
]
Since = Annotated[int | None, Query(ge=0, le=10**14, description="Milliseconds since the epoch.")]
"""An end of a window of what was decided and done, either of which may be left open."""

Moment = Query(ge=EARLIEST_MS, le=LATEST_MS, description="Milliseconds since the epoch.")


def listed(values: Iterable[str] | None) -> list[str]:
    """The items of a parameter that may be repeated or comma-separated."""
    return [item.strip() for value in values or () for item in value.split(",")]


def service_names(values: list[str] | None) -> list[str] | None:
    """The services that a parameter names; None where it was left out.

    Raises:
        InvalidRequest: one of them cannot be a service's name.
    """
    if values is None:
        return None
    names = listed(values)
    for name in names:
        scope_of(name)
    return names


@dataclass(frozen=True, slots=True)
class MetricsParameters:
    """A `MetricsQuery` as an address has it. A tag whose name has a comma can only be asked for by POST."""

    metrics: Annotated[list[str], _list_of(_METRIC_NAME), Query(description="Repeated or comma-separated.")]
    start: Annotated[int, Moment]
    end: Annotated[int, Moment]
    services: Services = None
    groupBy: Annotated[  # noqa: N815  the parameter's name
        list[str] | None,
        _list_of(_DIMENSION),
        Query(
            description="Repeated or comma-separated: service, endpoint, provider, model, configVersion, "
            "or tags.<name> for a tag."
        ),
    ] = None
    aggregation: Annotated[Aggregation | None, Query(description="How values of minutes are folded.")] = None
    interval: Annotated[
        int | None,
        Query(
            ge=MIN_INTERVAL_MS,
            le=MAX_WINDOW_MS,
            description="Milliseconds; left out, there is one point.",
        ),
    ] = None

    def query(self) -> MetricsQuery:
        """The question.

        Raises:
            InvalidRequest: there is no such question; says which parameter is at fault.
        """
        fields: dict[str, Any] = {
            "services": service_names(self.services),
            "metrics": listed(self.metrics),
            "aggregation": self.aggregation,
            "groupBy": listed(self.groupBy),
            "interval": self.interval,
        }
        try:
            fields["timeRange"] = TimeRange(start=self.start, end=self.end)
            return MetricsQuery.model_validate(fields)
        except ValidationError as error:
            raise invalid_request(error) from error


MetricsParametersDep = Annotated[MetricsParameters, Depends()]
