"""An application that has OpenFeature with its OFREP provider, and reports over plain HTTP."""

import time
from collections.abc import Mapping
from typing import Any

import httpx
from openfeature import api as openfeature
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

from tests.conformance.programs.lines import Reports, judgement, metric, run, served


class Flags:
    """The configuration as a flag, or where it cannot be had what the application has in its own code."""

    def __init__(self, setup: dict[str, Any]) -> None:
        headers = {"Authorization": f"Bearer {setup['key']}"}
        openfeature.set_provider(OFREPProvider(setup["api"], headers_factory=lambda: headers))
        self.client = openfeature.get_client()
        self.flag = f"llm.{setup['service']}.config"
        self.default = setup["default"]

    def read(self, unit: str) -> dict[str, Any]:
        found = self.client.get_object_details(self.flag, self.default, EvaluationContext(unit))
        assert isinstance(found.value, Mapping)
        return served(found.variant, dict(found.value))


class Application:
    def __init__(self, setup: dict[str, Any]) -> None:
        self.setup = setup
        self.flags = Flags(setup)
        headers = {"Authorization": f"Bearer {setup['key']}"}
        self.server = httpx.Client(base_url=f"{setup['api']}/api/v1", headers=headers, timeout=10)
        self.reports = Reports(lambda metrics, key: self._send("metrics", metrics, key))
        self.judged: list[dict[str, Any]] = []

    def call(self, asked: dict[str, Any]) -> dict[str, Any]:
        answer = self.flags.read(asked["unit"])
        time.sleep(asked["latencyMs"] / 1000)
        self.reports.put(metric(self.setup, asked, answer))
        if asked["score"] is not None:
            self.judged.append(judgement(self.setup, asked))
        return answer

    def end(self) -> dict[str, Any]:
        dropped = self.reports.end()
        judgements = Reports(lambda evaluations, key: self._send("evaluations", evaluations, key))
        for judged in self.judged:
            judgements.put(judged)
        dropped += judgements.end()
        self.server.close()
        return {"dropped": dropped}

    def _send(self, what: str, items: list[Any], key: str) -> bool:
        path = {"metrics": "/metrics", "evaluations": "/quality"}[what]
        try:
            answer = self.server.post(path, json={what: items}, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return False
        if answer.status_code != 200:
            assert answer.json()["error"]["retryable"], answer.text
            return False
        assert answer.json()["accepted"] == len(items), answer.text
        return True


if __name__ == "__main__":
    run(Application)
