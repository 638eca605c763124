"""What schemathesis is told of the API beside its document.

A JSON schema relates no field or parameter to another. A request that is valid by the schema may be refused
for such a relation, each of which is named here, and for nothing else.
"""

import math
import time
from collections.abc import Mapping
from typing import Any

import schemathesis
from pydantic import ValidationError
from schemathesis.openapi.checks import RejectedPositiveData

from api.analytics.queries import listed as listed_items
from domain.addresses import names_private_host
from domain.analytics import MetricsQuery
from domain.base import Message
from domain.optimization import OptimizationRequest
from domain.policy import ServicePolicy
from domain.webhooks import WebhookRequest

BATCHES = {"reportMetrics": "metrics", "reportQuality": "evaluations"}
MESSAGES: dict[str, type[Message]] = {
    "createWebhook": WebhookRequest,
    "queryMetrics": MetricsQuery,
    "replaceWebhook": WebhookRequest,
    "triggerOptimization": OptimizationRequest,
}


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Exception,
    case: schemathesis.Case,
    response: schemathesis.Response,
) -> bool:
    """Leave out the refusals of what breaks a relation."""
    refused = isinstance(failure, RejectedPositiveData) and response.status_code == 400
    return not (refused and _breaks_a_relation(case))


def _breaks_a_relation(case: schemathesis.Case) -> bool:
    operation = case.operation.definition.raw["operationId"]
    match operation:
        case "putService" if isinstance(case.body, Mapping):
            name = case.path_parameters["service"]
            misnamed = case.body.get("service", name) != name or name == "global"
            return misnamed or _is_contradictory(ServicePolicy, {**case.body, "service": name})
        case "createKey" if isinstance(case.body, Mapping):
            return (case.body.get("expiresAt") or math.inf) <= time.time() * 1000
        case "createWebhook" | "replaceWebhook" if _is_taken(WebhookRequest, case.body):
            return names_private_host(case.body["url"])
        case "getMetrics":
            return _is_contradictory(MetricsQuery, _as_a_body(case.query))
        case "updateConfig":
            return _names_no_service(case.body)
        case "streamConfig" | "listConfigVersions" | "getServiceConfig":
            return _names_no_service({**(case.query or {}), **(case.path_parameters or {})})
    return operation in MESSAGES and _is_contradictory(MESSAGES[operation], case.body)


def _as_a_body(query: Mapping[str, Any]) -> dict[str, Any]:
    """The question of an address as its POST has it."""
    start, end = query["start"], query["end"]
    listed = {
        name: listed_items(query[name]) for name in ("metrics", "services", "groupBy") if query.get(name)
    }
    rest = {name: query[name] for name in ("aggregation", "interval") if query.get(name) is not None}
    return {"timeRange": {"start": start, "end": end}, **listed, **rest}


def _is_taken(message: type[Message], body: Any) -> bool:
    try:
        message.model_validate(body)
    except ValidationError:
        return False
    return True


def _is_contradictory(message: type[Message], body: Any) -> bool:
    """Whether one of the message's own validators refuses what its fields' types allow."""
    try:
        message.model_validate(body)
    except ValidationError as error:
        return all(found["type"] == "value_error" for found in error.errors())
    return False


def _names_no_service(given: Any) -> bool:
    """An endpoint belongs to a service."""
    return given.get("endpoint") is not None and given.get("service") in (None, "global")


@schemathesis.check
def every_item_is_accounted_for(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """A batch is accepted in part: each of its items is counted once, and a bad one is named."""
    field = BATCHES.get(case.operation.definition.raw["operationId"])
    if field is None or response.status_code != 200:
        return
    answer, items = response.json(), case.body[field]
    assert answer["accepted"] + answer["rejected"] == len(items)
    named = [error["index"] for error in answer.get("errors", [])]
    assert named == sorted(set(named))
    assert len(named) == answer["rejected"]
