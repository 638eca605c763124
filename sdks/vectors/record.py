"""Records requests.json from a server with empty data, and from servers that fail, by hand:

    llm-optimizer dev --json --data-dir "$(mktemp -d)"
    python -m sdks.vectors.record <api> <admin key> > sdks/vectors/requests.json

A vector is a call of an SDK, the exchanges that it means, and what the caller sees; `retries` is what the
client is told of retries, where that is not its default. Keys, request ids, the ids of optimizations and
moments of errors are replaced, so that a second recording differs little. Answers that no sound server can be
made to give are composed, and the vector says so (`composed`).

A client may add its own `unit` to reads of configurations: the vectors do not name it.
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

import httpx
import mmh3

from sdks.vectors.failing import ADMIN_KEY, record_failures

KEY = "key-of-vectors"
MOMENT = 1764000000000
SERVICE, ENDPOINT = "chat-service", "/api/chat"
CONFIG = {
    "provider": "anthropic",
    "model": "claude-sonnet-4",
    "temperature": 0.7,
    "topP": 1.0,
    "maxTokens": 1024,
    "streaming": False,
    "functionCalling": False,
    "visionEnabled": False,
}
METRIC = {
    "timestamp": MOMENT,
    "service": SERVICE,
    "endpoint": ENDPOINT,
    "model": "claude-sonnet-4",
    "provider": "anthropic",
    "latencyMs": 1234,
    "tokensInput": 150,
    "tokensOutput": 500,
    "tokensTotal": 650,
    "costUsd": 0.0325,
    "statusCode": 200,
    "tags": {"configVersion": f"{SERVICE}@1"},
}
QUALITY = {
    "timestamp": MOMENT,
    "service": SERVICE,
    "requestId": "req-123",
    "overallScore": 92,
    "dimensionScores": {"accuracy": 95, "relevance": 90, "coherence": 90},
    "evaluationMethod": "llm-as-judge",
}
QUERY = {
    "services": [SERVICE],
    "metrics": ["latency.p95", "cost.total"],
    "timeRange": {"start": MOMENT - 60_000, "end": MOMENT + 60_000},
    "aggregation": "avg",
    "groupBy": ["model"],
}
TRIGGER = {
    "services": [SERVICE],
    "objectives": [
        {"metric": "cost", "goal": "minimize", "weight": 0.7},
        {"metric": "quality", "goal": "maximize", "weight": 0.3},
    ],
    "dryRun": True,
}
# What a caller sees of an answer, where that is not all of it.
SEEN = {
    "getConfig": ("version", "config"),
    "getHealth": ("status", "version"),
    "getStatus": ("mode",),
    "triggerOptimization": ("optimizationId", "status"),
}
KEPT_HEADERS = ("content-type", "date", "etag", "retry-after", "x-request-id")


def request_of(method: str, arguments: Any) -> dict[str, Any]:
    """The request that a call means."""
    if method == "getConfig":
        service, endpoint = arguments.get("service"), arguments.get("endpoint")
        path = "/config/current" if service is None else f"/config/service/{service}"
        return _request("GET", path, query={} if endpoint is None else {"endpoint": endpoint})
    if method == "getHistory":
        times = arguments.get("timeRange", {})
        query = {**arguments, **times}
        query.pop("timeRange", None)
        plain = {k: ",".join(v) if isinstance(v, list) else str(v) for k, v in query.items()}
        return _request("GET", "/analytics/history", query=plain)
    if method in ("getHealth", "getStatus"):
        return _request("GET", "/health" if method == "getHealth" else "/status")
    path, body = {
        "reportMetrics": ("/metrics", {"metrics": [arguments]}),
        "reportMetricsBatch": ("/metrics", {"metrics": arguments}),
        "reportQuality": ("/quality", {"evaluations": [arguments]}),
        "queryMetrics": ("/analytics/metrics", arguments),
        "triggerOptimization": ("/optimize/trigger", arguments),
    }[method]
    return _request("POST", path, body=body)


def _request(method: str, path: str, *, query: Any = None, body: Any = None) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {KEY}"}
    return {
        "method": method,
        "path": "/api/v1" + path,
        "query": query or {},
        "headers": headers,
        "body": body,
    }


class Recorder:
    """Asks a server what vectors say, and keeps what it answers."""

    def __init__(self, api: str, key: str) -> None:
        self._http = httpx.Client(base_url=api, timeout=30)
        self._admin = key
        self.vectors: list[dict[str, Any]] = []

    def set_up(self, method: str, path: str, body: Any) -> Any:
        """A step that is no vector."""
        answer = self._http.request(method, "/api/v1" + path, json=body, headers=self._bearer(self._admin))
        answer.raise_for_status()
        return answer.json()

    def record(
        self,
        name: str,
        method: str,
        arguments: Any,
        *,
        key: str | None = None,
        composed: tuple[Any, ...] = (),
        retries: int | None = None,
    ) -> dict[str, Any]:
        """A vector; `composed` answers come before the recorded one, which is that of all `retries`."""
        request = request_of(method, arguments)
        answer = self._http.request(
            request["method"],
            request["path"],
            params=request["query"],
            json=request["body"],
            headers=self._bearer(self._admin if key is None else key),
        )
        headers = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
        response = {"status": answer.status_code, "headers": headers, "body": answer.json()}
        responses = [*composed, *[response] * (1 + (retries or 0))]
        return self._add(name, method, arguments, responses, bool(composed), retries)

    def compose(self, name: str, method: str, arguments: Any, response: Any) -> None:
        """A vector of one answer that is not the server's."""
        self._add(name, method, arguments, [response], True, None)

    def _add(
        self,
        name: str,
        method: str,
        arguments: Any,
        responses: list[Any],
        composed: bool,
        retries: int | None,
    ) -> dict[str, Any]:
        request = request_of(method, arguments)
        vector: dict[str, Any] = {
            "name": name,
            "call": {"method": method, "arguments": arguments},
            "exchanges": [{"request": request, "response": response} for response in responses],
            **_outcome(method, responses[-1]),
        }
        if composed:
            vector["composed"] = True
        if retries is not None:
            vector["retries"] = retries
        self.vectors.append(vector)
        sys.stderr.write(f"{responses[-1]['status']}  {name}\n")
        return vector

    def _bearer(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"}


def _outcome(method: str, response: Any) -> dict[str, Any]:
    body = response["body"]
    if response["status"] < 400:
        fields = SEEN.get(method, tuple(body))
        return {"result": {field: body[field] for field in fields}}
    error = {name: body["error"][name] for name in ("code", "retryable", "details") if name in body["error"]}
    return {"error": {**error, "status": response["status"], "requestId": body["requestId"]}}


def failed(
    code: str, status: int, *, retryable: bool, retry_after: str | None = None, details: Any = None
) -> dict[str, Any]:
    """An error in the API's format, composed."""
    number = f"composed-{code.lower().replace('_', '-')}"
    error = {"code": code, "message": f"composed: {code}", "retryable": retryable}
    if details is not None:
        error["details"] = details
    headers = {"content-type": "application/json", "x-request-id": number}
    if retry_after is not None:
        headers["retry-after"] = retry_after
    return {
        "status": status,
        "headers": headers,
        "body": {"error": error, "requestId": number, "timestamp": MOMENT},
    }


def steady(vectors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The vectors with what is chance in them replaced, the same by the same."""
    for vector in vectors:
        for exchange in vector["exchanges"]:
            body = exchange["response"]["body"]
            if "requestId" in body:
                body["timestamp"] = MOMENT
    text = json.dumps(vectors, ensure_ascii=False)
    ids = [
        exchange["response"]["headers"]["x-request-id"]
        for vector in vectors
        for exchange in vector["exchanges"]
        if "x-request-id" in exchange["response"]["headers"]
    ]
    for number, request_id in enumerate(dict.fromkeys(i for i in ids if not i.startswith("composed-")), 1):
        text = text.replace(request_id, f"req-{number:03}")
    for number, run in enumerate(dict.fromkeys(re.findall(r"opt_[0-9A-Za-z]{20,}", text)), 1):
        text = text.replace(run, f"opt_{number:026}")
    return json.loads(text)


def unit_of(deployment_id: str, percent: float, *, canary: bool) -> str:
    """The first of user-1, user-2, ... on that side of a rollout, as assignment.json says."""
    for number in range(1, 10_000):
        unit = f"user-{number}"
        hashed: int = mmh3.hash(f"{deployment_id}:{unit}".encode(), 0, signed=False)
        if (hashed % 10_000 < percent * 100) is canary:
            return unit
    raise AssertionError(f"no unit at {percent} %")


def _errors_first(recorder: Recorder) -> None:
    recorder.record("no configuration yet", "getConfig", {})
    recorder.record("a key that nobody has", "getConfig", {"service": SERVICE}, key="lao_nobody")
    recorder.record("a query with a key that nobody has", "queryMetrics", QUERY, key="lao_nobody")
    recorder.record("a service never heard of", "triggerOptimization", {**TRIGGER, "services": ["none"]})
    created = recorder.set_up("POST", "/keys", {"name": "reader", "scopes": ["read"]})
    recorder.record("reports need the scope ingest", "reportMetrics", METRIC, key=created["key"])
    recorder.record("a trigger needs the scope write", "triggerOptimization", TRIGGER, key=created["key"])


def _configurations(recorder: Recorder) -> None:
    other = {**CONFIG, "temperature": 0.2, "stopSequences": ["\n\n"], "parameters": {"seed": 7}}
    for body in (
        # What has nothing to inherit is applied at once, so the narrowest comes first.
        {"config": {**other, "maxTokens": 256}, "service": SERVICE, "endpoint": ENDPOINT},
        {"config": other, "service": SERVICE},
        {"config": CONFIG},
    ):
        recorder.set_up("POST", "/config/update", {"reason": "vectors", **body})
    recorder.record("the global configuration", "getConfig", {})
    recorder.record("a service's configuration", "getConfig", {"service": SERVICE})
    recorder.record(
        "the configuration of a service and endpoint", "getConfig", {"service": SERVICE, "endpoint": ENDPOINT}
    )
    recorder.record("a service that inherits the global one", "getConfig", {"service": "inherits"})
    recorder.record("a service by no such name", "getConfig", {"service": "-"})
    recorder.record(
        "503 with Retry-After, then the configuration",
        "getConfig",
        {"service": SERVICE},
        composed=(failed("SERVICE_UNAVAILABLE", 503, retryable=True, retry_after="1"),),
    )


def _reports(recorder: Recorder) -> None:
    recorder.record("a metric", "reportMetrics", METRIC)
    bad = {**METRIC, "latencyMs": -1}
    batch = [METRIC, bad, {**METRIC, "statusCode": 500, "errorType": "Timeout"}]
    recorder.record("a batch with a bad item", "reportMetricsBatch", batch)
    recorder.record("a judgement", "reportQuality", QUALITY)
    recorder.record("a score past 100", "reportQuality", {**QUALITY, "overallScore": 101})
    recorder.record(
        "a metric, in the second try under the same key",
        "reportMetrics",
        {**METRIC, "timestamp": MOMENT + 1},
        composed=(failed("DATABASE_ERROR", 503, retryable=True),),
    )
    limited = failed("RATE_LIMITED", 429, retryable=True, retry_after="1")
    slow = failed("TIMEOUT", 504, retryable=True)
    recorder.record(
        "429, then 504, then taken",
        "reportQuality",
        {**QUALITY, "overallScore": 91},
        composed=(limited, slow),
    )


def _queries(recorder: Recorder) -> None:
    recorder.record("metrics of a time", "queryMetrics", QUERY)
    whole = {"metrics": ["requests.count"], "timeRange": QUERY["timeRange"]}
    recorder.record("metrics of all services, in one point", "queryMetrics", whole)
    recorder.record("a metric by no such name", "queryMetrics", {**QUERY, "metrics": ["speed"]})
    recorder.record("history", "getHistory", {"limit": 10, "services": [SERVICE]})
    times = {"start": MOMENT - 1_000, "end": MOMENT}
    recorder.record("history of a time", "getHistory", {"limit": 5, "offset": 10, "timeRange": times})
    recorder.record("a page past the bound", "getHistory", {"limit": 501})
    recorder.record("health", "getHealth", {})
    recorder.record("status", "getStatus", {})


def _rollout(recorder: Recorder) -> None:
    body = {"config": {**CONFIG, "temperature": 0.9}, "reason": "vectors", "service": SERVICE}
    update = recorder.set_up("POST", "/config/update", {**body, "deploymentStrategy": "canary"})
    while "rollout" not in (read := recorder.set_up("GET", f"/config/service/{SERVICE}", None)):
        time.sleep(0.1)
    rollout = read["rollout"]
    for side in ("control", "canary"):
        unit = unit_of(update["deploymentId"], rollout["trafficPercent"], canary=side == "canary")
        vector = recorder.record(f"a unit of the {side}", "getConfig", {"service": SERVICE, "unit": unit})
        answer = vector["exchanges"][0]["response"]["body"]
        vector["result"] = {name: answer["rollout"][side][name] for name in ("version", "config")}


def _optimizations(recorder: Recorder) -> None:
    recorder.record("a trigger of a dry run", "triggerOptimization", TRIGGER)
    harmful = [{"metric": "cost", "goal": "minimize", "weight": -1}]
    recorder.record(
        "an objective of negative weight", "triggerOptimization", {**TRIGGER, "objectives": harmful}
    )
    recorder.set_up("POST", "/admin/emergency-stop", {"reason": "vectors"})
    recorder.record("a trigger after an emergency stop", "triggerOptimization", TRIGGER)
    recorder.set_up("POST", "/admin/resume", None)


def _composed(recorder: Recorder) -> None:
    violations = [{"constraint": "quality", "severity": "error", "message": "quality.avg is below 75"}]
    refused = {"isValid": False, "violations": violations}
    recorder.compose(
        "constraints that nothing keeps",
        "triggerOptimization",
        TRIGGER,
        failed("CONSTRAINT_VIOLATION", 422, retryable=False, details=refused),
    )
    for code in ("INTERNAL_ERROR", "OPTIMIZATION_FAILED", "DEPLOYMENT_FAILED", "ROLLBACK_FAILED"):
        response = failed(code, 500, retryable=False)
        recorder.compose(f"{code} is not tried again", "triggerOptimization", TRIGGER, response)


def _failures(vectors: list[dict[str, Any]]) -> None:
    """What is left where trying again did not help."""

    def record(what: str, api: str) -> None:
        recorder = Recorder(api, ADMIN_KEY)
        recorder.vectors = vectors
        if what == "limited":
            recorder.set_up("GET", "/status", None)
            recorder.record("a key that asks too often", "queryMetrics", QUERY, retries=0)
            recorder.set_up("POST", "/metrics", {"metrics": [METRIC]})
            recorder.record("a key that reports too often", "reportMetrics", METRIC, retries=0)
        elif what == "slow":
            recorder.record("a question that takes too long", "getHistory", {"limit": 10}, retries=1)
        elif what == "without Temporal":
            recorder.record("a trigger while Temporal is away", "triggerOptimization", TRIGGER, retries=1)
        else:
            recorder.record("a report while the database is away", "reportMetrics", METRIC, retries=2)
            recorder.record("history while the database is away", "getHistory", {"limit": 10}, retries=0)

    record_failures(record)


def main() -> None:
    api, key = sys.argv[1:]
    recorder = Recorder(api, key)
    for part in (_errors_first, _configurations, _reports, _queries, _rollout, _optimizations, _composed):
        part(recorder)
    _failures(recorder.vectors)
    document = {"vectors": steady(recorder.vectors)}
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
