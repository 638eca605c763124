"""Sends the traffic: fetches a configuration for each request, and reports what came of it."""

import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from llm_auto_optimizer import Config, IngestResult, OptimizerClient, OptimizerError

from cli.replaying.errors import ReplayError
from cli.replaying.options import ReplayOptions
from cli.replaying.tally import Arm, Phase, Tally
from cli.replaying.traffic import Request, Served, Traffic, serve
from domain.policy import CandidateModel
from domain.pricing import price

ENDPOINT = "/replay"
_TICK = 0.05
_MAX_BATCH = 1_000


class Call(NamedTuple):
    """A request with the configuration that it was given and what the model made of it."""

    id: str
    config: Config
    served: Served


class Driver(threading.Thread):
    """Sends the traffic at its pace until it is stopped, counting in `tally` under the present `phase`.

    What was due since the last time goes out as one batch, so that the pace holds however fast it is.
    """

    def __init__(
        self,
        client: OptimizerClient,
        options: ReplayOptions,
        traffic: Traffic,
        candidates: Sequence[CandidateModel],
    ) -> None:
        super().__init__(name="replay-driver", daemon=True)
        self.tally = Tally()
        self.phase: Phase = "before"
        self._client = client
        self._options = options
        self._traffic = traffic
        self._prices = {candidate.key: candidate for candidate in candidates}
        self._indexes = {model.key: index for index, model in enumerate(options.models)}
        self._run_id = uuid.uuid4().hex[:12]
        self._stopped = threading.Event()
        self._error: Exception | None = None

    def run(self) -> None:
        started = time.monotonic()
        try:
            while not self._stopped.wait(_TICK):
                due = self._traffic.until((time.monotonic() - started) * self._options.speed)
                for first in range(0, len(due), _MAX_BATCH):
                    self._send(due[first : first + _MAX_BATCH])
        except (OptimizerError, ReplayError) as error:
            self._error = error

    def stop(self) -> None:
        """Ends the traffic and waits until what is under way is sent."""
        self._stopped.set()
        self.join()

    def check(self) -> None:
        """Raises what ended the traffic before it was stopped, if anything did."""
        if self._error is not None:
            raise self._error

    def _send(self, requests: Sequence[Request]) -> None:
        phase = self.phase
        calls = [self._call(request) for request in requests]
        now_ms = int(time.time() * 1000)
        _require_taken(self._client.report_metrics_batch([self._metric(call, now_ms) for call in calls]))
        _require_taken(self._client.report_quality_batch([self._quality(call, now_ms) for call in calls]))
        for call in calls:
            self._count(call, phase, now_ms)

    def _call(self, request: Request) -> Call:
        call_id = f"{self._run_id}-{request.number}"
        config = self._client.get_config(service=self._options.service, unit=call_id)
        index = self._indexes.get(f"{config.provider}/{config.model}")
        if index is None:
            raise ReplayError(
                f"{self._options.service} was given {config.provider}/{config.model} ({config.version}), "
                "which no --model names"
            )
        return Call(call_id, config, serve(request, self._options.models, index, config.max_tokens))

    def _metric(self, call: Call, now_ms: int) -> dict[str, Any]:
        served = call.served
        return {
            "timestamp": now_ms,
            "service": self._options.service,
            "endpoint": ENDPOINT,
            "provider": call.config.provider,
            "model": call.config.model,
            "latencyMs": served.latency_ms,
            "tokensInput": served.tokens_input,
            "tokensOutput": served.tokens_output,
            "tokensTotal": served.tokens_input + served.tokens_output,
            "statusCode": 200,
            "tags": {"configVersion": call.config.version, "requestId": call.id},
        }

    def _quality(self, call: Call, now_ms: int) -> dict[str, Any]:
        return {
            "timestamp": now_ms,
            "service": self._options.service,
            "requestId": call.id,
            "overallScore": call.served.quality,
            "evaluationMethod": "exact-match",
        }

    def _count(self, call: Call, phase: Phase, now_ms: int) -> None:
        config, served = call.config, call.served
        key = f"{config.provider}/{config.model}"
        cost = price(
            config.provider,
            config.model,
            served.tokens_input,
            served.tokens_output,
            overrides=self._prices.get(key),
            at=now_ms,
        )
        arm: Arm | None = (
            None if config.deployment_id is None else "canary" if config.is_canary else "control"
        )
        self.tally.add(phase, arm, config.version, key, served, cost)


def _require_taken(result: IngestResult) -> None:
    if result["rejected"]:
        reason = (result.get("errors") or [{"index": 0, "reason": "for no reason given"}])[0]["reason"]
        raise ReplayError(f"the server refused {result['rejected']} reports: {reason}")
