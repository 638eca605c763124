"""Configurations over HTTP: first ones, inheritance, validation, versions, ETags."""

from itertools import product
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from storage.database import Database
from tests.api.answers import done, refused
from tests.api.conftest import CONFIG

UPDATE, CURRENT = "/api/v1/config/update", "/api/v1/config/current"


async def update(client: httpx.AsyncClient, **change: Any) -> httpx.Response:
    headers = change.pop("headers", {})
    body = {"config": CONFIG, "reason": "because"} | change
    return await client.post(UPDATE, json=body, headers=headers)


async def test_a_first_configuration_is_served_at_once(client: httpx.AsyncClient) -> None:
    refused(await client.get(CURRENT), 404, "NOT_FOUND")
    answer = done(await update(client))
    assert answer["version"] == "global@1"
    assert answer["success"] is True
    assert answer["validationResult"]["isValid"] is True
    assert "deploymentId" not in answer
    current = done(await client.get(CURRENT))
    assert current["config"] == CONFIG
    assert (current["version"], current["appliedBy"]) == ("global@1", "admin")
    assert isinstance(current["appliedAt"], int)
    assert set(current) == {"version", "config", "appliedAt", "appliedBy"}


async def test_services_and_endpoints_inherit(client: httpx.AsyncClient) -> None:
    own = CONFIG | {"model": "gpt-4o-mini"}
    assert done(await update(client, service="chat", config=own))["version"] == "chat@1"
    refused(await client.get("/api/v1/config/service/mail"), 404, "NOT_FOUND")
    done(await update(client))
    chat = done(await client.get("/api/v1/config/service/chat"))
    assert chat == {
        "service": "chat",
        "version": "chat@1",
        "config": own,
        "overrides": {"model": "gpt-4o-mini"},
    }
    mail = done(await client.get("/api/v1/config/service/mail", params={"endpoint": "/any"}))
    assert mail == {"service": "mail", "version": "global@1", "config": CONFIG}
    endpoint = done(await client.get("/api/v1/config/service/chat", params={"endpoint": "/a b?ü"}))
    assert endpoint["version"] == "chat@1"
    assert done(await client.get("/api/v1/config/service/global"))["version"] == "global@1"


async def test_the_same_configuration_again_is_a_no_op_that_says_so(client: httpx.AsyncClient) -> None:
    done(await update(client))
    again = done(await update(client))
    assert (again["version"], again["unchanged"]) == ("global@1", True)
    assert "nothing was changed" in again["validationResult"]["recommendations"][0]
    assert done(await client.get("/api/v1/config/versions"))["total"] == 1


BAD: list[tuple[str, Any]] = [
    *((field, bad) for field in ("provider", "model") for bad in (None, "", 1, "x" * 257)),
    *(("temperature", bad) for bad in (None, -0.1, 2.1, "1", True)),
    *(("topP", bad) for bad in (None, -0.1, 1.1, "1")),
    *(("topK", bad) for bad in (-1, 1001, 1.5, "1")),
    *(("maxTokens", bad) for bad in (None, 0, -1, 1.5, "100", 10**30)),
    *(
        (field, bad)
        for field in ("streaming", "functionCalling", "visionEnabled")
        for bad in (None, 1, "true")
    ),
    *(("stopSequences", bad) for bad in ("x", [1], [None], ["x"] * 65)),
    *product(["parameters"], ([], "x", 1)),
    ("modelVersion", ""),
    ("max_tokens", 5),
    ("unknown", 5),
]


@pytest.mark.parametrize(("field", "value"), BAD)
async def test_a_bad_field_is_named(client: httpx.AsyncClient, field: str, value: Any) -> None:
    error = refused(await update(client, config=CONFIG | {field: value}), 400, "INVALID_REQUEST")
    assert error["details"][0]["field"].startswith(f"config.{field}")


async def test_a_field_has_one_name(client: httpx.AsyncClient) -> None:
    other = {name: value for name, value in CONFIG.items() if name != "topP"} | {"top_p": 1.0}
    fields = {
        fault["field"]
        for fault in refused(await update(client, config=other), 400, "INVALID_REQUEST")["details"]
    }
    assert fields == {"config.topP", "config.top_p"}
    refused(await update(client, config=CONFIG, validate_only=True), 400, "INVALID_REQUEST")


async def test_bad_requests_are_refused_and_change_nothing(client: httpx.AsyncClient) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"reason": ""},
        {"reason": None},
        {"reason": 1},
        {"config": None},
        {"config": {}},
        {"deploymentStrategy": "blue-green"},
        {"validateOnly": "yes"},
        {"validateOnly": 1},
        {"service": "a b"},
        {"service": ""},
        {"service": 7},
        {"endpoint": "/x"},
        {"service": "chat", "endpoint": ""},
        {"service": "chat", "endpoint": "x" * 257},
        {"strategy": "canary"},
    )
    for change in changes:
        refused(await update(client, **change), 400, "INVALID_REQUEST")
    for missing in ("config", "reason"):
        body = {"config": CONFIG, "reason": "x"}
        del body[missing]
        refused(await client.post(UPDATE, json=body), 400, "INVALID_REQUEST")
    assert done(await client.get("/api/v1/config/versions"))["total"] == 0
    assert done(await client.get("/api/v1/services"))["total"] == 0


async def test_a_configuration_that_a_hard_constraint_forbids(
    client: httpx.AsyncClient, database: Database
) -> None:
    policy = {"constraints": [{"id": "only-mini", "type": "hard", "models": ["gpt-4o-mini"]}]}
    done(await client.put("/api/v1/services/chat", json=policy))
    wanted = {"service": "chat", "validateOnly": True}
    tried = done(await update(client, **wanted))
    assert (tried["success"], tried["validationResult"]["isValid"]) == (False, False)
    assert done(await update(client, **wanted, config=CONFIG | {"model": "gpt-4o-mini"}))["success"] is True
    error = refused(await update(client, service="chat"), 422, "CONSTRAINT_VIOLATION")
    assert error["details"] == tried["validationResult"]
    assert error["details"]["violations"][0]["constraint"] == "only-mini"
    # The global configuration is what chat would inherit.
    through_global = refused(await update(client), 422, "CONSTRAINT_VIOLATION")
    assert through_global["details"]["violations"][0]["constraint"] == "chat: only-mini"
    assert done(await client.get("/api/v1/config/versions"))["total"] == 0
    connection = await database.connect()
    alerts = await connection.fetch("SELECT scope FROM events WHERE type = 'alert.raised' ORDER BY sequence")
    await connection.close()
    assert [row["scope"] for row in alerts] == ["chat", "global"]


async def test_validate_only_changes_nothing(client: httpx.AsyncClient) -> None:
    answer = done(await update(client, service="chat", validateOnly=True))
    assert answer["success"] is True
    assert "version" not in answer
    assert done(await client.get("/api/v1/services"))["total"] == 0


async def test_versions_are_listed_and_read(client: httpx.AsyncClient) -> None:
    done(await update(client, service="chat"))
    done(await update(client, service="chat", endpoint="/v1/talk ü", config=CONFIG | {"topK": 3}))
    done(await update(client, service="mail"))
    everything = done(await client.get("/api/v1/config/versions", params={"limit": 2, "offset": 1}))
    assert everything["total"] == 3
    assert [version["version"] for version in everything["versions"]] == ["chat:/v1/talk ü@1", "chat@1"]
    name = quote("chat:/v1/talk ü@1", safe="")
    version = done(await client.get(f"/api/v1/config/versions/{name}"))
    assert version == everything["versions"][0]
    assert (version["scope"], version["changeType"], version["reason"]) == (
        "chat:/v1/talk ü",
        "manual",
        "because",
    )
    assert version["config"] == CONFIG | {"topK": 3}
    mine = done(
        await client.get("/api/v1/config/versions", params={"service": "chat", "endpoint": "/v1/talk ü"})
    )
    assert mine == {"total": 1, "versions": [version]}


async def test_an_etag_spares_the_body_and_guards_an_update(client: httpx.AsyncClient) -> None:
    done(await update(client, service="chat"))
    path = "/api/v1/config/service/chat"
    first = await client.get(path)
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        unchanged = await client.get(path, headers={"If-None-Match": known})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == etag
        assert unchanged.headers["x-request-id"]
    assert (await client.get(path, headers={"If-None-Match": '"other"'})).content == first.content
    mended = CONFIG | {"temperature": 0.1}
    for stale in ('"chat@7"', "chat@2", '"chat@0;0123456789abcdef"'):
        answer = await update(client, service="chat", config=mended, headers={"If-Match": stale})
        refused(answer, 412, "CONFLICT")
    for present in (etag, '"chat@1"', "*"):
        answer = await update(client, service="chat", headers={"If-Match": present})
        assert done(answer)["unchanged"] is True
    refused(await update(client, service="mail", headers={"If-Match": "*"}), 412, "CONFLICT")
    refused(await update(client, headers={"If-Match": '"a", "b"'}), 400, "INVALID_REQUEST")


async def test_the_routes_answer_as_their_shortcut_does(client: httpx.AsyncClient) -> None:
    done(await update(client, service="chat"))
    plain = await client.get("/api/v1/config/service/chat", params={"unit": "u", "endpoint": "/a"})
    # A path that is percent-encoded where it need not be takes the same way; a repeated name does not.
    routed = await client.get("/api/v1/config/service/chat?unit=v&unit=u&endpoint=/a")
    assert (plain.status_code, plain.content) == (routed.status_code, routed.content)
    assert plain.headers["etag"] == routed.headers["etag"]
    assert routed.headers["content-type"] == plain.headers["content-type"] == "application/json"
    unchanged = await client.get(
        "/api/v1/config/service/chat?unit=v&unit=u", headers={"If-None-Match": plain.headers["etag"]}
    )
    assert unchanged.status_code == 304


async def test_an_update_under_one_key_is_made_once(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "update-1"}
    first = done(await update(client, headers=headers))
    assert done(await update(client, headers=headers)) == first
    refused(await update(client, reason="another", headers=headers), 409, "CONFLICT")
    assert done(await client.get("/api/v1/config/versions"))["total"] == 1


async def test_parameters_are_kept_as_they_were_given(client: httpx.AsyncClient) -> None:
    full = CONFIG | {
        "modelVersion": "2024-11-20",
        "topK": 0,
        "stopSequences": ["\n\n", ""],
        "parameters": {
            "seed": None,
            "logitBias": {"50256": -100},
            "nested": [1, 2.5, {"a": "日本"}],
            "on": False,
        },
    }
    done(await update(client, config=full))
    assert done(await client.get(CURRENT))["config"] == full
    assert done(await client.get("/api/v1/config/versions/global%401"))["config"] == full
