"""What schemathesis is told of the API beside its document.

A JSON schema relates no field or parameter to another. A request that is valid by the schema may be refused
for such a relation, each of which is named here, and for nothing else.
"""

import json
import time
from collections.abc import Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urlsplit

import schemathesis
from jsonschema_rs import is_valid
from pydantic import ValidationError
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.openapi.checks import RejectedPositiveData

from api.analytics.queries import listed
from api.body import parse_json
from domain.addresses import names_private_host
from domain.analytics import MetricsQuery
from domain.base import Message
from domain.optimization import OptimizationRequest
from domain.policy import ServicePolicy
from domain.rules.validation import faults, rolled_back_to
from domain.webhooks import WebhookRequest

Case: TypeAlias = schemathesis.Case[Any]
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
    case: Case,
    response: schemathesis.Response,
) -> bool:
    """Leave out refusals of what breaks a relation, and answers to what an address cannot say wrongly."""
    if isinstance(failure, AcceptedNegativeData):
        return not _is_valid_as_sent(case, response)
    refused = isinstance(failure, RejectedPositiveData) and response.status_code == 400
    return not (refused and _breaks_a_relation(case, response))


def _is_valid_as_sent(case: Case, response: schemathesis.Response) -> bool:
    """Whether all that is wrong was lost on the way: in an address `true` is the name of a service, too."""
    if case.method != "GET" or case.path_parameters:
        return False
    sent = parse_qs(_query(response), keep_blank_values=True)
    schemas = {each.name: each.definition["schema"] for each in case.operation.query}
    missing = [each.name for each in case.operation.query if each.is_required and each.name not in sent]
    return not missing and all(
        name in schemas and _takes(schemas[name], values) for name, values in sent.items()
    )


def _body(case: Case) -> Any:
    """The JSON that is sent, which the operation's schema has made."""
    return case.body


def _query(response: schemathesis.Response) -> str:
    """What was asked for in the address, as it was sent."""
    return urlsplit(str(response.request.url)).query


def _takes(schema: dict[str, Any], values: list[str]) -> bool:
    """Whether a parameter may have these values: as a list, as a number, as text."""
    last = values[-1]
    numbers = [int(last)] if last.lstrip("-").isascii() and last.lstrip("-").isdigit() else []
    return any(is_valid(schema, meant) for meant in (values, *numbers, last))


def _breaks_a_relation(case: Case, response: schemathesis.Response) -> bool:
    operation, body = case.operation.definition.raw["operationId"], _body(case)
    match operation:
        case "putService" if isinstance(body, Mapping):
            name = case.path_parameters["service"]
            misnamed = body.get("service", name) != name or name == "global"
            named = {**body, "service": name}
            return misnamed or _is_contradictory(ServicePolicy, named) or _says_nothing(named)
        case "createKey" if isinstance(body, Mapping):
            expires: float | None = body.get("expiresAt")
            return expires is not None and expires <= time.time() * 1000
        case "createWebhook" | "replaceWebhook" if _is_taken(WebhookRequest, body):
            return names_private_host(body["url"])
        case "getMetrics":
            # The items of a list with commas cannot be counted by a schema.
            faults = _faults(MetricsQuery, _as_a_body(_query(response)))
            return set(faults) in ({"value_error"}, {"too_long"}, {"value_error", "too_long"})
        case "updateConfig":
            return _names_no_service(body)
        case "streamConfig" | "listConfigVersions" | "getServiceConfig":
            return _names_no_service({**(case.query or {}), **(case.path_parameters or {})})
    return operation in MESSAGES and _is_contradictory(MESSAGES[operation], body)


def _as_a_body(query: str) -> dict[str, Any]:
    """The question of an address as its POST has it."""
    given = parse_qs(query)
    body: dict[str, Any] = {
        name: listed(given[name]) for name in ("metrics", "services", "groupBy") if name in given
    }
    body |= {name: given[name][-1] for name in ("aggregation",) if name in given}
    body |= {name: int(given[name][-1]) for name in ("interval",) if name in given}
    return body | {"timeRange": {name: int(given[name][-1]) for name in ("start", "end")}}


def _is_taken(message: type[Message], body: Any) -> bool:
    return not _faults(message, body)


def _is_contradictory(message: type[Message], body: Any) -> bool:
    """Whether the message's own validators alone refuse what its fields' types allow."""
    return set(_faults(message, body)) == {"value_error"}


def _says_nothing(policy: Any) -> bool:
    """Whether its rules and triggers are such as cannot be followed: a value that is never reached, say."""
    if not _is_taken(ServicePolicy, policy):
        return False
    read = ServicePolicy.model_validate(parse_json(json.dumps(policy).encode()))
    return bool(faults(read) or rolled_back_to(read))


def _faults(message: type[Message], body: Any) -> list[str]:
    try:
        message.model_validate(parse_json(json.dumps(body).encode()))
    except ValidationError as error:
        return [fault["type"] for fault in error.errors()]
    return []


def _names_no_service(given: Any) -> bool:
    """An endpoint belongs to a service."""
    return given.get("endpoint") is not None and given.get("service") in (None, "global")


@schemathesis.check
def every_item_is_accounted_for(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: Case
) -> None:
    """A batch is accepted in part: each of its items is counted once, and a bad one is named."""
    field = BATCHES.get(case.operation.definition.raw["operationId"])
    if field is None or response.status_code != 200:
        return
    answer, items = response.json(), _body(case)[field]
    assert answer["accepted"] + answer["rejected"] == len(items)
    named = [error["index"] for error in answer.get("errors", [])]
    assert named == sorted(set(named))
    assert len(named) == answer["rejected"]
