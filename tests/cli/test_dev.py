"""`llm-optimizer dev`, `serve`, `worker` and `db upgrade` as processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from infra.embedded import EmbeddedStack

START_SECONDS = 60
END_SECONDS = 30


def bare_environment(**given: str) -> dict[str, str]:
    """The environment without settings of ours."""
    own = ("OPTIMIZER_", "TEMPORAL_", "DATABASE_URL", "REDIS_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(own)} | given


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts `llm-optimizer` with arguments; what still runs at the end is stopped."""
    processes: list[subprocess.Popen[str]] = []

    def _start(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=bare_environment(**environment),
            text=True,
        )
        processes.append(process)
        return process

    yield _start
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=END_SECONDS)


def announced(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """The JSON line of a `dev` that is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate(timeout=END_SECONDS)[1]
    found: dict[str, Any] = json.loads(line)
    return found


def health(address: str) -> dict[str, Any]:
    answer = httpx.get(f"{address}/api/v1/health", timeout=10)
    found: dict[str, Any] = answer.json()
    return found


def grpc_health(target: str) -> int:
    with grpc.insecure_channel(target) as channel:
        stub: Any = HealthStub(channel)  # whose types know no methods
        status: int = stub.Check(HealthCheckRequest(), timeout=10).status
    return status


def test_dev_announces_what_it_was_given_and_gives_way_to_a_taken_port(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ("dev", "--json", "--port", str(port), "--data-dir", str(tmp_path), "--step-seconds", "7")
        product = announced(start(*arguments, OPTIMIZER_API_KEY="my-own-key"))
        assert not product["api"].endswith(f":{port}")
    assert set(product) == {"api", "grpc", "temporal", "temporalUi", "key", "dataDir"}
    assert (product["dataDir"], product["key"]) == (str(tmp_path), "my-own-key")
    assert health(product["api"])["status"] == "healthy"
    assert httpx.get(product["temporalUi"], timeout=10).status_code == 200
    assert grpc_health(product["grpc"]) == HealthCheckResponse.SERVING
    headers = {"Authorization": "Bearer my-own-key"}
    httpx.put(f"{product['api']}/api/v1/services/short", json={}, headers=headers, timeout=10)
    found = httpx.get(f"{product['api']}/api/v1/services/short", headers=headers, timeout=10).json()
    assert (found["rollout"]["stepSeconds"], found["rollout"]["checkSeconds"]) == (7, pytest.approx(0.7))


def test_nothing_is_left_behind_and_the_data_are_found_again(start: Start, tmp_path: Path) -> None:
    """Ended, interrupted and killed, one after the other: each time the next start finds everything."""
    arguments = ("dev", "--json", "--port", "0", "--data-dir", str(tmp_path))
    running = start(*arguments)
    product = announced(running)
    headers = {"Authorization": f"Bearer {product['key']}"}
    for seconds, ending in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGKILL), 3600):
        policy = {"schedule": {"everySeconds": seconds}}
        put = httpx.put(f"{product['api']}/api/v1/services/kept", json=policy, headers=headers, timeout=10)
        assert put.status_code == 200, put.text
        children = psutil.Process(running.pid).children(recursive=True)
        assert len(children) >= 4, "PostgreSQL, Redis, Temporal and the worker run as processes"
        running.send_signal(ending)
        _, error = running.communicate(timeout=END_SECONDS)
        assert "Traceback" not in error, ending.name
        _, alive = psutil.wait_procs(children, timeout=END_SECONDS)
        assert not alive, ending.name
        running = start(*arguments)
        key, product = product["key"], announced(running)
        assert product["key"] == key, ending.name
        kept = httpx.get(f"{product['api']}/api/v1/services/kept", headers=headers, timeout=10)
        assert kept.json()["schedule"]["everySeconds"] == seconds, ending.name


@pytest.mark.parametrize("command", ["dev", "serve", "worker"])
def test_a_wrong_setting_ends_the_command_and_is_named(start: Start, command: str) -> None:
    process = start(command, OPTIMIZER_STEP_SECONDS="soon")
    _, error = process.communicate(timeout=END_SECONDS)
    assert process.returncode == 2
    assert "OPTIMIZER_STEP_SECONDS" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_missing_address_is_named(start: Start, command: str) -> None:
    _, error = start(command).communicate(timeout=END_SECONDS)
    assert "DATABASE_URL" in error


def test_the_parts_run_alone_against_given_servers(start: Start, stack: EmbeddedStack) -> None:
    given = {
        "DATABASE_URL": stack.database_url,
        "REDIS_URL": stack.redis_url,
        "TEMPORAL_ADDRESS": stack.temporal_address,
        "OPTIMIZER_API_KEY": "key",
    }
    upgrade = start("db", "upgrade", **given)
    _, error = upgrade.communicate(timeout=END_SECONDS)
    assert upgrade.returncode == 0, error
    worker = start("worker", **given)
    server = start("serve", "--port", "0", "--grpc-port", "0", **given)
    assert server.stderr is not None
    address = next(line for line in server.stderr if line.startswith("serving")).split()[-1]
    target = next(line for line in server.stderr if line.startswith("serving gRPC")).split()[-1]
    assert grpc_health(target) == HealthCheckResponse.SERVING
    port = target.rpartition(":")[2]
    second = start("serve", "--port", "0", "--grpc-port", port, **given)
    _, error = second.communicate(timeout=END_SECONDS)
    assert second.returncode == 1
    assert f"127.0.0.1:{port}: Address already in use" in error
    without = start("serve", "--port", "0", "--no-grpc", **given)
    assert without.stderr is not None
    assert next(line for line in without.stderr if line.startswith("serving"))
    without.send_signal(signal.SIGTERM)
    _, error = without.communicate(timeout=END_SECONDS)
    assert "gRPC" not in error
    deadline = time.monotonic() + START_SECONDS
    while health(address)["status"] != "healthy" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert health(address)["status"] == "healthy"
    for process in (worker, server):
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_SECONDS) == 0
