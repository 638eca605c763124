"""`docs/interfaces.md` lists every endpoint, event and error code with tests that are there."""

import ast
import re
from pathlib import Path
from typing import Any

import httpx

from api.grpc.optimizer_pb2 import DESCRIPTOR
from domain import errors
from domain.events import EVENT_TYPES
from tests.api.answers import done

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs" / "interfaces.md").read_text(encoding="utf-8")
SPECIFICATION = (Path(__file__).parent / "interfaces.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `([^`]+)` \| (.+) \|$", re.MULTILINE)


def rows(heading: str) -> dict[str, str]:
    """What a section's table lists, with the cell of its tests."""
    section = TABLE.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return dict(ROW.findall(section))


def unnamed(endpoint: str) -> str:
    """An endpoint without the names of its parameters."""
    return re.sub(r"{\w+}", "{}", endpoint)


async def test_every_endpoint_is_listed(client: httpx.AsyncClient) -> None:
    document: dict[str, Any] = done(await client.get("/openapi.json"))
    served = {
        unnamed(f"{method.upper()} {path}")
        for path, methods in document["paths"].items()
        for method in methods
    }
    listed = {unnamed(endpoint) for endpoint in rows("Endpoints")}
    assert listed == served | {"GET /metrics"}


def test_every_endpoint_of_the_specification_is_listed() -> None:
    named = set(re.findall(r"`((?:GET|POST) /api/v1/[^`]+)`", SPECIFICATION))
    assert len(named) == 14
    assert {unnamed(endpoint) for endpoint in named} <= {unnamed(endpoint) for endpoint in rows("Endpoints")}


def test_every_method_of_grpc_is_listed() -> None:
    service = DESCRIPTOR.services_by_name["OptimizerService"]
    methods = {f"{service.full_name}/{name}" for name in service.methods_by_name}
    standard = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert set(rows("gRPC")) == methods | standard


def test_every_event_is_listed() -> None:
    events = SPECIFICATION.split("### 3.1")[1].split("### 3.2")[0]
    specified = set(re.findall(r"'([a-z]+\.[a-z]+)'", events))
    assert len(specified) == 9
    assert set(rows("Events")) == set(EVENT_TYPES) == specified | {"alert.raised", "deployment.held"}


def test_every_error_code_is_listed() -> None:
    specified = set(re.findall(r"(\w+) = '\1'", SPECIFICATION))
    raised = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.OptimizerError)
    }
    assert set(rows("Errors")) == specified == raised


def test_every_row_names_tests_that_are_there() -> None:
    for heading in ("Endpoints", "gRPC", "Events", "Errors"):
        for name, cell in rows(heading).items():
            tests = re.findall(r"`([^`]+)::(\w+)`", cell)
            assert tests, name
            for path, test in tests:
                assert test in defined(ROOT / path), f"{name}: {path}::{test}"


def defined(path: Path) -> set[str]:
    """The functions of a file."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
