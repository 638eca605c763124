"""What may be asked of an endpoint, and what it is sent."""

import base64
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from domain.events import EventMessage
from domain.webhooks import Sender, WebhookRequest, body_of

URL = "https://example.com/hook"
EVENT = EventMessage(id="evt_1", type="config.changed", timestamp=7, scope="chat", data={"a": 1})

# Section 3.2 of the interface specification.
SPECIFIED = """
webhooks:
  - url: https://api.example.com/webhooks/optimizer
    events:
      - config.changed
      - optimization.complete
      - deployment.completed
      - deployment.failed
      - rollback.triggered
    headers:
      Authorization: "Bearer <token>"
    retryPolicy:
      maxRetries: 3
      backoff: exponential
"""


def secret(length: int) -> str:
    return f"whsec_{base64.b64encode(bytes(length)).decode()}"


def test_the_specified_endpoint() -> None:
    (given,) = yaml.safe_load(SPECIFIED)["webhooks"]
    read = WebhookRequest.model_validate(given)
    assert read.retry_policy.max_retries == 3
    assert read.headers == {"Authorization": "Bearer <token>"}
    assert read.model_dump(mode="json", by_alias=True, exclude_unset=True) == given


def test_every_default() -> None:
    read = WebhookRequest.model_validate({"url": URL})
    assert (read.events, read.headers, read.secret, read.enabled) == (None, None, None, True)
    assert (read.retry_policy.max_retries, read.retry_policy.backoff) == (15, "exponential")


@pytest.mark.parametrize("length", [24, 32, 64])
def test_a_secret_of_a_good_length(length: int) -> None:
    assert WebhookRequest(url=URL, secret=secret(length)).secret == secret(length)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"url": "ftp://example.com"}, "url"),
        ({"events": []}, "events"),
        ({"events": ["config.chnged"]}, "events"),
        ({"events": ["config.changed", "config.changed"]}, "events"),
        ({"secret": secret(23)}, "secret"),
        ({"secret": secret(65)}, "secret"),
        ({"secret": secret(24).removeprefix("whsec_")}, "secret"),
        ({"secret": f"{secret(24)}!"}, "secret"),
        ({"secret": "whsec_"}, "secret"),
        ({"headers": {"Host": "other"}}, "headers"),
        ({"headers": {"content-LENGTH": "1"}}, "headers"),
        ({"headers": {"Content-Type": "text/plain"}}, "headers"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers"),
        ({"headers": {"Webhook-Signature": "v1,x"}}, "headers"),
        ({"headers": {"A b": "x"}}, "headers"),
        ({"headers": {"A\r\nB": "x"}}, "headers"),
        ({"headers": {"": "x"}}, "headers"),
        ({"headers": {"A": "x\r\nB: y"}}, "headers"),
        ({"headers": {"A": "x\n"}}, "headers"),
        ({"headers": {"A": " x"}}, "headers"),
        ({"headers": {"A": ""}}, "headers"),
        ({"headers": {"A": "ü"}}, "headers"),
        ({"headers": {"A": "1", "a": "2"}}, "headers"),
        ({"headers": {"A": "x" * 4097}}, "headers"),
        ({"headers": {f"A{number}": "x" for number in range(51)}}, "headers"),
        ({"retryPolicy": {"maxRetries": -1}}, "retryPolicy"),
        ({"retryPolicy": {"maxRetries": 1.5}}, "retryPolicy"),
        ({"retryPolicy": {"backoff": "random"}}, "retryPolicy"),
        ({"retryPolicy": {"initialDelayMs": 0}}, "retryPolicy"),
        ({"retryPolicy": {"initialDelayMs": 10, "maxDelayMs": 9}}, "retryPolicy"),
        ({"enabled": "yes"}, "enabled"),
        ({"evnts": ["config.changed"]}, "evnts"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        WebhookRequest.model_validate({"url": URL} | fields)
    assert refused.value.errors()[0]["loc"][0] == field


def test_a_secret_value_is_not_repeated_in_its_refusal() -> None:
    with pytest.raises(ValidationError) as refused:
        WebhookRequest.model_validate({"url": URL, "headers": {"A": "hidden\n"}})
    assert "hidden" not in refused.value.errors()[0]["msg"]
    assert "hidden" not in repr(WebhookRequest(url=URL, headers={"A": "hidden"}))


def test_the_event_is_nested_and_at_the_top() -> None:
    sender = Sender(version="1.2.3", mode="daemon", instance_id="wrk_1")
    event = {"id": "evt_1", "type": "config.changed", "timestamp": 7, "scope": "chat", "data": {"a": 1}}
    assert body_of(EVENT, sender, 9) == {
        "event": event,
        "metadata": {
            "optimizer": {"version": "1.2.3", "mode": "daemon", "instanceId": "wrk_1"},
            "timestamp": 9,
        },
        **event,
    }
