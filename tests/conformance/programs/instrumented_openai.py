"""An application with an openai client that OpenTelemetry instruments: its spans are its reports."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import openai
from opentelemetry import baggage, context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from opentelemetry.processor.baggage import BaggageSpanProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from tests.api.providers import FAILING, provider
from tests.conformance.programs.lines import run
from tests.conformance.programs.ofrep_client import Flags

PREFIX = "llm_optimizer."
REQUEST = f"{PREFIX}request"


class Exporter(SpanExporter):
    """An exporter, and the calls of whose spans it says that it could not send them."""

    def __init__(self, exporter: SpanExporter) -> None:
        self.exporter = exporter
        self.dropped: set[str] = set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self.exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.dropped |= {str((span.attributes or {})[REQUEST]) for span in spans}
        return result

    def shutdown(self) -> None:
        self.exporter.shutdown()


class Application:
    def __init__(self, setup: dict[str, Any]) -> None:
        self.setup = setup
        self.flags = Flags(setup)
        headers = {"authorization": f"Bearer {setup['key']}"}
        self.exporter = Exporter(OTLPSpanExporter(f"{setup['api']}/v1/traces", headers=headers))
        self.tracers = TracerProvider(resource=Resource({"service.name": setup["service"]}))
        self.tracers.add_span_processor(BaggageSpanProcessor(lambda name: name.startswith(PREFIX)))
        self.tracers.add_span_processor(BatchSpanProcessor(self.exporter, schedule_delay_millis=500))
        OpenAIInstrumentor().instrument(tracer_provider=self.tracers)
        self.tracer = self.tracers.get_tracer("application")
        self.provider = ExitStack()
        base_url = self.provider.enter_context(provider())
        self.openai = openai.OpenAI(api_key="none", base_url=base_url, max_retries=0)

    def call(self, asked: dict[str, Any]) -> dict[str, Any]:
        answer = self.flags.read(asked["unit"])
        carried = {
            "config_version": answer["version"] or "",
            "endpoint": self.setup["endpoint"],
            "request": asked["requestId"],
        }
        around = context.get_current()
        for name, value in carried.items():
            around = baggage.set_baggage(f"{PREFIX}{name}", value, around)
        token = context.attach(around)
        try:
            self._ask(asked, answer["model"])
        finally:
            context.detach(token)
        return answer

    def _ask(self, asked: dict[str, Any], model: str) -> None:
        usage = {"prompt_tokens": str(asked["tokensInput"]), "completion_tokens": str(asked["tokensOutput"])}
        try:
            response = self.openai.chat.completions.create(
                model=FAILING if asked["failed"] else model,
                messages=[{"role": "user", "content": "a question"}],
                metadata=usage,
            )
        except openai.RateLimitError:
            assert asked["failed"]
            return
        if asked["score"] is not None:
            with self.tracer.start_as_current_span("judge") as span:
                span.set_attribute("gen_ai.response.id", response.id)
                found = {
                    "gen_ai.evaluation.name": "judge",
                    "gen_ai.evaluation.score.value": asked["score"] / 100,
                }
                span.add_event("gen_ai.evaluation.result", found)

    def end(self) -> dict[str, Any]:
        self.tracers.force_flush(120_000)
        self.tracers.shutdown()
        self.openai.close()
        self.provider.close()
        return {"dropped": len(self.exporter.dropped), "uncertain": sorted(self.exporter.dropped)}


if __name__ == "__main__":
    run(Application)
