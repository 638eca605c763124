"""One attempt over real HTTP: what is sent and signed, what an answer means, where it may not go."""

import base64
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpcore
import pytest
import pytest_asyncio
from standardwebhooks import Webhook, WebhookVerificationError

from activities import delivery_http
from activities.delivery_http import Endpoint, Poster, Reply
from domain.events import EventMessage
from domain.webhooks import Sender
from tests.activities.receiver import Answer, Receiver, receiving
from tests.node.running import run_node

SENDER = Sender(version="1.2.3", mode="daemon", instance_id="wrk_1")
EVENT = EventMessage(
    id="evt_1", type="config.changed", timestamp=7, scope="chat", data={"newConfig": {"model": "für „dich“"}}
)
OLD, NEW, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2, 3))
PUBLIC = "93.184.216.34"


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


@pytest_asyncio.fixture
async def poster() -> AsyncIterator[Poster]:
    async with Poster(SENDER, allow_private=True) as opened:
        yield opened


@pytest_asyncio.fixture
async def guarded() -> AsyncIterator[Poster]:
    async with Poster(SENDER, allow_private=False) as opened:
        yield opened


async def post(poster: Poster, url: str, *secrets: str, **headers: str) -> Reply:
    return await poster.post(Endpoint(url, headers, secrets), EVENT)


async def test_what_is_sent(poster: Poster, receiver: Receiver) -> None:
    before = time.time_ns() // 1_000_000
    reply = await post(poster, receiver.url, Authorization="Bearer <token>")
    assert (reply.status, reply.error, reply.retry_after_ms) == (200, None, None)
    assert reply.duration_ms > 0
    (request,) = receiver.received
    assert request.target == "/hook?from=optimizer"
    headers = request.headers
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == "llm-auto-optimizer/1.2.3"
    assert headers["authorization"] == "Bearer <token>"
    assert headers["webhook-id"] == "evt_1"
    assert before // 1000 <= int(headers["webhook-timestamp"]) <= time.time()
    assert "webhook-signature" not in headers
    body = request.json
    assert before <= body["metadata"].pop("timestamp") <= time.time_ns() // 1_000_000
    assert body == {
        "event": EVENT.to_json(),
        "metadata": {"optimizer": {"version": "1.2.3", "mode": "daemon", "instanceId": "wrk_1"}},
        **EVENT.to_json(),
    }


async def test_each_secret_signs_as_its_library_verifies(poster: Poster, receiver: Receiver) -> None:
    await post(poster, receiver.url, NEW, OLD)
    (request,) = receiver.received
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    for secret in (NEW, OLD):
        assert Webhook(secret).verify(request.body, request.headers) == request.json
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(request.body, request.headers)


async def test_each_secret_signs_as_the_library_for_node_verifies(poster: Poster, receiver: Receiver) -> None:
    await post(poster, receiver.url, NEW, OLD)
    (request,) = receiver.received
    body = request.body.decode()
    given = {"headers": request.headers, "body": body}
    for secret in (NEW, OLD):
        verified = run_node("verify-webhook.mjs", given | {"secret": secret})
        assert verified.stdout == "config.changed", verified.stderr
    for changed in ({"secret": OTHER}, {"secret": NEW, "body": body + " "}):
        refused = run_node("verify-webhook.mjs", given | changed)
        assert refused.returncode != 0
        assert "No matching signature" in refused.stderr


async def test_a_connection_is_kept(poster: Poster, receiver: Receiver) -> None:
    for _ in range(5):
        await post(poster, receiver.url)
    assert (len(receiver.received), receiver.connections) == (5, 1)


@pytest.mark.parametrize("status", [200, 201, 202, 299])
async def test_a_success(poster: Poster, receiver: Receiver, status: int) -> None:
    receiver.decide = lambda request: Answer(status)
    reply = await post(poster, receiver.url)
    assert (reply.status, reply.error) == (status, None)


@pytest.mark.parametrize("status", [301, 307, 400, 404, 410, 500])
async def test_a_failure_is_told_and_no_redirection_followed(
    poster: Poster, receiver: Receiver, status: int
) -> None:
    body = "no\n\tway\0 – ".encode() + b"\xff" + b"x" * 400
    receiver.decide = lambda request: Answer(status, {"location": receiver.url, "retry-after": "7"}, body)
    reply = await post(poster, receiver.url)
    assert reply.status == status
    assert reply.error is not None
    assert reply.error.startswith(f"answered {status}: no way – \ufffdxxx")
    assert reply.error.isprintable()
    assert len(reply.error) < 400
    assert reply.retry_after_ms is None
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_wish_to_be_left_alone_is_heard(poster: Poster, receiver: Receiver, status: int) -> None:
    receiver.decide = lambda request: Answer(status, {"Retry-After": "7"})
    assert (await post(poster, receiver.url)).retry_after_ms == 7_000


async def test_of_a_long_answer_only_the_beginning_is_read(poster: Poster, receiver: Receiver) -> None:
    receiver.decide = lambda request: Answer(500, body=b"y" * delivery_http.MAX_ANSWER_BYTES, missing=10**12)
    reply = await post(poster, receiver.url)
    assert reply.status == 500
    receiver.decide = lambda request: Answer()
    assert (await post(poster, receiver.url)).error is None


async def test_the_status_says_whether_it_was_taken_whatever_follows(
    poster: Poster, receiver: Receiver
) -> None:
    receiver.decide = lambda request: Answer(200, body=b"", missing=10)
    assert (await post(poster, receiver.url)).error is None
    receiver.decide = lambda request: Answer(500, body=b"", missing=10)
    assert (await post(poster, receiver.url)).error == "answered 500"


async def test_silence_is_a_failure(
    poster: Poster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_http, "ATTEMPT_SECONDS", 0.2)
    receiver.decide = lambda request: Answer(hang=True)
    reply = await post(poster, receiver.url)
    assert (reply.status, reply.error) == (None, "no answer within 0.2 s")


async def test_nobody_there_is_a_failure(poster: Poster, receiver: Receiver) -> None:
    await receiver.stop()
    reply = await post(poster, receiver.url)
    assert reply.status is None
    assert reply.error is not None
    assert reply.error.startswith("ConnectError")
    await receiver.start()
    assert (await post(poster, receiver.url)).error is None


async def test_a_host_without_address_is_a_failure(poster: Poster) -> None:
    reply = await post(poster, "http://nobody.invalid/")
    assert reply.error is not None
    assert "nobody.invalid cannot be resolved" in reply.error


# Where it may not go


def resolve(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
    """Let the resolver give these answers, one after the other, the last one again and again."""
    left = list(answers)

    def getaddrinfo(host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        answer = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that are connected to from now on; none of them answers."""
    found: list[str] = []

    async def connect_tcp(self: object, host: str, *rest: Any, **options: Any) -> Any:
        found.append(host)
        raise httpcore.ConnectError("not in a test")

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect_tcp)
    return found


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0"]
)
async def test_a_private_host_is_refused(guarded: Poster, receiver: Receiver, host: str) -> None:
    reply = await post(guarded, f"http://{host}:{receiver.port}/")
    assert reply.status is None
    assert reply.error is not None
    assert "not in the public internet" in reply.error
    assert receiver.connections == 0


async def test_a_name_that_leads_to_a_private_address_is_refused(
    guarded: Poster, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, ["127.0.0.1"])
    reply = await post(guarded, f"http://hook.example.com:{receiver.port}/")
    assert reply.error is not None
    assert "hook.example.com is not in the public internet" in reply.error
    assert receiver.connections == 0


async def test_a_name_that_leads_elsewhere_when_asked_again_is_asked_once(
    guarded: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, [PUBLIC], ["127.0.0.1"])
    found = dialled(monkeypatch)
    await post(guarded, "http://rebind.example.com/")
    assert found == [PUBLIC]


async def test_of_several_addresses_the_public_ones_are_tried(
    guarded: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, ["169.254.169.254", PUBLIC, "10.0.0.1", "8.8.8.8", PUBLIC])
    found = dialled(monkeypatch)
    reply = await post(guarded, "http://many.example.com/")
    assert found == [PUBLIC, "8.8.8.8"]
    assert reply.error == "ConnectError: not in a test"


async def test_a_body_is_the_same_text_that_was_signed(poster: Poster, receiver: Receiver) -> None:
    await post(poster, receiver.url)
    (request,) = receiver.received
    assert json.loads(request.body)["data"]["newConfig"]["model"] == "für „dich“"
    assert "für „dich“".encode() in request.body
