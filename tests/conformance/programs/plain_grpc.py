"""An application on gRPC alone, by the protocol's file: it asks at each call, and while there is no answer it
assigns its units by the rollout of the last one."""

import time
from typing import Any

import grpc
import mmh3

from api.grpc import optimizer_pb2 as messages
from tests.conformance.programs.lines import Reports, metric, run, served

SERVICE = messages.DESCRIPTOR.services_by_name["OptimizerService"].full_name
AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]


class Application:
    def __init__(self, setup: dict[str, Any]) -> None:
        self.setup = setup
        self.channel = grpc.insecure_channel(setup["grpc"], OPTIONS)
        self.key = ("authorization", f"Bearer {setup['key']}")
        self.last: Any = None
        self.reports = Reports(self._send)

    def call(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = self._config(asked["unit"])
        time.sleep(asked["latencyMs"] / 1000)
        answer = served(found.version, {"model": found.config.model, "temperature": found.config.temperature})
        self.reports.put(messages.Metric(**_snake(metric(self.setup, asked, answer))))
        return answer

    def end(self) -> dict[str, Any]:
        dropped = self.reports.end()
        self.channel.close()
        return {"dropped": dropped}

    def _config(self, unit: str) -> Any:
        request = messages.ConfigRequest(
            service=self.setup["service"], endpoint=self.setup["endpoint"], unit=unit
        )
        # There is nothing to go by yet before the first answer.
        seconds = 30.0 if self.last is None else 1.0
        try:
            self.last = self._ask("GetConfig", request, messages.ConfigResponse, seconds)
        except grpc.RpcError as error:
            if self.last is None or error.code() not in AWAY:
                raise
            rollout = self.last.rollout
            bucket = mmh3.hash(f"{rollout.deployment_id}:{unit}".encode(), 0, signed=False) % 10_000
            watched = time.time_ns() // 1_000_000 < rollout.watched_until
            return rollout.canary if watched and bucket < 100 * rollout.traffic_percent else rollout.control
        return self.last

    def _send(self, metrics: list[Any], key: str) -> bool:
        request = messages.MetricsRequest(metrics=metrics)
        try:
            answer = self._ask(
                "ReportMetrics", request, messages.MetricsResponse, 10.0, ("idempotency-key", key)
            )
        except grpc.RpcError as error:
            if error.code() not in AWAY:
                raise
            return False
        assert answer.accepted == len(metrics), answer
        return True

    def _ask(
        self, method: str, request: Any, response: Any, seconds: float, *metadata: tuple[str, str]
    ) -> Any:
        call = self.channel.unary_unary(
            f"/{SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        return call(request, timeout=seconds, metadata=(self.key, *metadata))


def _snake(report: dict[str, Any]) -> dict[str, Any]:
    fields = messages.Metric.DESCRIPTOR.fields
    return {field.name: report[field.json_name] for field in fields if field.json_name in report}


if __name__ == "__main__":
    run(Application)
