"""An application on the Python SDK."""

from contextlib import suppress
from time import sleep
from typing import Any

from llm_auto_optimizer import OptimizerClient

from tests.conformance.programs.lines import Failed, judgement, run, served


class Application:
    def __init__(self, setup: dict[str, Any]) -> None:
        self.setup = setup
        self.client = OptimizerClient(endpoint=setup["api"], api_key=setup["key"])
        self.judged: list[dict[str, Any]] = []

    def call(self, asked: dict[str, Any]) -> dict[str, Any]:
        of = {"service": self.setup["service"], "endpoint": self.setup["endpoint"], "unit": asked["unit"]}
        with suppress(Failed), self.client.track_request(**of) as tracker:
            config = tracker.config
            tracker.set_request_id(asked["requestId"])
            sleep(asked["latencyMs"] / 1000)
            if asked["failed"]:
                raise Failed
            tracker.set_tokens(input=asked["tokensInput"], output=asked["tokensOutput"])
            tracker.set_cost(asked["costUsd"])
        if asked["score"] is not None:
            self.judged.append(judgement(self.setup, asked))
        return served(config.version, config.to_dict())

    def end(self) -> dict[str, Any]:
        self.client.flush(60)
        self.client.report_quality_batch(self.judged)
        self.client.close()
        return {"dropped": self.client.dropped_reports}


if __name__ == "__main__":
    run(Application)
