"""The OpenAPI document: committed as it is served, with examples that keep to its own schemas."""

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from api.examples import EXAMPLES
from tests.api.answers import done

COMMITTED = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text(encoding="utf-8"))


def operations() -> dict[str, dict[str, Any]]:
    """Every operation by its id."""
    return {
        operation["operationId"]: operation
        for methods in COMMITTED["paths"].values()
        for operation in methods.values()
    }


def success(operation: dict[str, Any]) -> dict[str, Any]:
    """What the operation answers when all is well, by content type."""
    found: dict[str, Any] = next(
        answer.get("content", {})
        for status, answer in operation["responses"].items()
        if status.startswith("2")
    )
    return found


async def test_what_is_committed_is_what_is_served(client: httpx.AsyncClient) -> None:
    served = done(await client.get("/openapi.json"))
    assert served["info"].pop("version") == "1.2.3"
    committed = {**COMMITTED, "info": {k: v for k, v in COMMITTED["info"].items() if k != "version"}}
    assert served == committed, "run `make openapi`"


def test_every_json_body_has_an_example() -> None:
    for name, operation in operations().items():
        example = EXAMPLES.get(name)
        if "application/json" in success(operation):
            assert example is not None, name
            assert example.response is not None, name
        if operation.get("requestBody", {}).get("required"):
            assert example is not None, name
            assert example.request is not None, name
    assert set(EXAMPLES) <= set(operations())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_keeps_to_its_schema(name: str) -> None:
    operation, example = operations()[name], EXAMPLES[name]
    bodies = [(success(operation), example.response)]
    if example.request is not None:
        bodies.append((operation["requestBody"]["content"], example.request))
    for content, value in bodies:
        schema = content["application/json"]["schema"]
        assert content["application/json"]["example"] == value
        whole = {**schema, "components": COMMITTED["components"]}
        jsonschema_rs.validator_for(whole).validate(value)


def test_every_operation_says_which_errors_it_answers_in_the_one_format() -> None:
    errors = COMMITTED["components"]["responses"]
    for name, error in errors.items():
        schema = error["content"]["application/json"]["schema"]
        form = {"Ofrep": "EvaluationFailure", "OtlpE": "Status"}.get(name[:5], "ErrorResponse")
        assert schema == {"$ref": f"#/components/schemas/{form}"}, name
        jsonschema_rs.validator_for({**schema, "components": COMMITTED["components"]}).validate(
            error["content"]["application/json"]["example"]
        )
        assert "X-Request-Id" in error["headers"], name
    for name, operation in operations().items():
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                form = {"ofrep": "OfrepError", "otlp": "OtlpError"}.get(operation["tags"][0], "Error")
                error = f"{form}{status}"
                assert answer == {"$ref": f"#/components/responses/{error}"}, name
                assert error in errors
            else:
                assert "X-Request-Id" in answer["headers"], name
        secured = "security" in operation
        assert secured == ({"401", "403", "429"} <= set(operation["responses"])), name


def test_operations_name_the_scope_of_the_key_that_they_need() -> None:
    scopes = {
        name: operation["security"][0]["ApiKey"]
        for name, operation in operations().items()
        if "security" in operation
    }
    assert {scope for named in scopes.values() for scope in named} == {"ingest", "read", "write", "admin"}
    assert all(len(named) == 1 for named in scopes.values())
    assert scopes["reportMetrics"] == ["ingest"]
    assert scopes["emergencyStop"] == ["admin"]
    unsecured = set(operations()) - set(scopes)
    assert unsecured == {"getHealth", "getLiveness", "getReadiness", "getPrometheusMetrics"}
