"""Applications that OpenTelemetry instruments: its own exporters, and openai clients as they are watched."""

import asyncio
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openfeature import api as openfeature
from openfeature.contrib.hook.opentelemetry import TracingHook
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openinference.instrumentation.openai import OpenAIInstrumentor as OpenInference
from opentelemetry import baggage, context
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter as JsonExporter
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as GenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor as OpenLLMetry
from opentelemetry.processor.baggage import BaggageSpanProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from storage.database import Database
from tests.api.conftest import ADMIN_KEY, Served
from tests.api.grpc_client import served_both
from tests.api.providers import COMPLETION_TOKENS, FAILING, PROMPT_TOKENS, provider
from tests.api.telemetry import rows
from tests.api.test_ofrep import split
from tests.storage.records import first_config

# One of the instrumentations has a model of an older pydantic.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")

KEY = {"authorization": f"Bearer {ADMIN_KEY}"}
DOCUMENT = Path(__file__).parents[2] / "docs" / "opentelemetry.md"
RESOURCE = Resource({"service.name": "chat"})


def ask(base_url: str, model: str = "gpt-4o") -> None:
    """A call by an openai client, whatever comes of it."""
    client = openai.OpenAI(api_key="none", base_url=base_url, max_retries=0)
    with client:
        try:
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "a question that nobody else may read"}]
            )
        except openai.RateLimitError:
            assert model == FAILING


@contextmanager
def instrumented(
    exporter: Any, *instrumentors: Any, meters: MeterProvider | None = None
) -> Iterator[TracerProvider]:
    """Openai clients instrumented, their spans exported when the block ends."""
    tracers = TracerProvider(resource=RESOURCE)
    tracers.add_span_processor(BaggageSpanProcessor(lambda key: key.startswith("llm_optimizer.")))
    tracers.add_span_processor(BatchSpanProcessor(exporter))
    more = {} if meters is None else {"meter_provider": meters}
    try:
        for instrumentor in instrumentors:
            instrumentor.instrument(tracer_provider=tracers, **more)
        yield tracers
        assert tracers.force_flush()
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
        tracers.shutdown()


def http(client: httpx.AsyncClient) -> OTLPSpanExporter:
    return OTLPSpanExporter(f"{client.base_url}/v1/traces", headers=KEY, compression=Compression.Gzip)


@pytest.mark.parametrize("instrumentor", [OpenLLMetry, OpenInference, GenAI])
async def test_each_instrumentation_s_spans_are_calls(
    client: httpx.AsyncClient, database: Database, instrumentor: Callable[[], Any]
) -> None:
    def run() -> None:
        with provider() as base_url, instrumented(http(client), instrumentor()):
            ask(base_url)
            ask(base_url, FAILING)

    await asyncio.to_thread(run)
    good, bad = await rows(database)
    assert (good["service"], good["provider"], good["model"]) == ("chat", "openai", "gpt-4o")
    assert (good["tokens_input"], good["tokens_output"]) == (PROMPT_TOKENS, COMPLETION_TOKENS)
    assert (good["status_code"], bad["model"]) == (200, FAILING)
    assert good["latency_ms"] > 0
    assert good["cost_usd"] > 0
    assert bad["status_code"] >= 400
    assert bad["error_type"]
    assert "nobody else may read" not in f"{good}{bad}"


async def test_of_two_instrumentations_of_one_call_one_counts(
    client: httpx.AsyncClient, database: Database
) -> None:
    def run() -> None:
        with provider() as base_url, instrumented(http(client), GenAI(), OpenLLMetry()):
            ask(base_url)
            ask(base_url)

    await asyncio.to_thread(run)
    found = await rows(database)
    assert len(found) == 2
    assert len({row["request_id"] for row in found}) == 2


async def test_the_json_exporter_is_understood(client: httpx.AsyncClient, database: Database) -> None:
    def run() -> None:
        exporter = JsonExporter(endpoint=f"{client.base_url}/v1/traces", headers=KEY)
        with provider() as base_url, instrumented(exporter, GenAI()):
            ask(base_url)

    await asyncio.to_thread(run)
    (row,) = await rows(database)
    assert (row["tokens_input"], row["tags"]["traceId"]) == (PROMPT_TOKENS, row["tags"]["traceId"].lower())
    assert (len(row["tags"]["traceId"]), len(row["tags"]["spanId"])) == (32, 16)


async def test_spans_and_metrics_come_by_grpc_as_well(served: Served, database: Database) -> None:
    async with served_both(served) as both:

        def run() -> None:
            exporter = GrpcExporter(both.target, insecure=True, headers=KEY)
            with provider() as base_url, instrumented(exporter, GenAI()):
                ask(base_url)
            meters = MeterProvider(
                [PeriodicExportingMetricReader(GrpcMetricExporter(both.target, insecure=True, headers=KEY))],
                resource=Resource({"service.name": "mail"}),
            )
            with provider() as base_url, instrumented(InMemorySpanExporter(), GenAI(), meters=meters):
                ask(base_url)
                assert meters.force_flush()
                meters.shutdown()

        await asyncio.to_thread(run)
    first, second = await rows(database)
    assert (first["service"], second["service"]) == ("chat", "mail")
    for row in (first, second):
        assert (row["model"], row["tokens_input"], row["tokens_output"]) == (
            "gpt-4o",
            PROMPT_TOKENS,
            COMPLETION_TOKENS,
        )


@pytest.mark.parametrize("instrumentor", [OpenLLMetry, GenAI])
async def test_metrics_count_each_call_once_where_no_spans_come(
    client: httpx.AsyncClient, database: Database, instrumentor: Callable[[], Any]
) -> None:
    def run() -> None:
        exporter = OTLPMetricExporter(f"{client.base_url}/v1/metrics", headers=KEY)
        meters = MeterProvider([PeriodicExportingMetricReader(exporter)], resource=RESOURCE)
        with provider() as base_url, instrumented(InMemorySpanExporter(), instrumentor(), meters=meters):
            ask(base_url)
            assert meters.force_flush()
            assert meters.force_flush()
            ask(base_url)
            ask(base_url)
            assert meters.force_flush()
            meters.shutdown()

    await asyncio.to_thread(run)
    found = await rows(database)
    assert len(found) == 3
    for row in found:
        assert (row["provider"], row["model"], row["status_code"]) == ("openai", "gpt-4o", 200)
        assert (row["tokens_input"], row["tokens_output"]) == (PROMPT_TOKENS, COMPLETION_TOKENS)
        assert 0 < row["latency_ms"] < 10_000


async def test_metrics_of_a_service_that_sends_spans_count_nothing(
    client: httpx.AsyncClient, database: Database
) -> None:
    def run() -> None:
        exporter = OTLPMetricExporter(f"{client.base_url}/v1/metrics", headers=KEY)
        meters = MeterProvider([PeriodicExportingMetricReader(exporter)], resource=RESOURCE)
        with provider() as base_url, instrumented(http(client), GenAI(), meters=meters) as tracers:
            ask(base_url)
            assert tracers.force_flush()
            assert meters.force_flush()
            meters.shutdown()

    await asyncio.to_thread(run)
    assert len(await rows(database)) == 1


async def test_an_application_with_openfeature_and_opentelemetry_needs_nothing_of_ours(
    served: Served, database: Database
) -> None:
    """Each call is made by the arm of its unit, and told of as that arm's, by events and by baggage alike."""
    await first_config(database, "chat", "gpt-4o")
    _, canary, control = await split(database)
    async with served() as client:

        def run() -> None:
            flags = OFREPProvider(base_url=str(client.base_url), headers_factory=lambda: KEY)
            openfeature.set_provider(flags)
            openfeature.add_hooks([TracingHook()])
            reader = openfeature.get_client()

            def read(unit: str) -> tuple[str, str | None]:
                found = reader.get_object_details("llm.chat.config", {}, EvaluationContext(unit))
                assert isinstance(found.value, Mapping)
                return str(found.value["model"]), found.variant

            with provider() as base_url, instrumented(http(client), GenAI()) as tracers:
                tracer = tracers.get_tracer("application")
                for unit in (canary, control, canary):
                    with tracer.start_as_current_span("request"):
                        model, _ = read(unit)
                        ask(base_url, model)
                for unit in (canary, control):
                    model, version = read(unit)
                    token = context.attach(baggage.set_baggage("llm_optimizer.config_version", version))
                    ask(base_url, model)
                    context.detach(token)

        try:
            await asyncio.to_thread(run)
        finally:
            openfeature.clear_hooks()
            openfeature.clear_providers()
    served_by = [(row["model"], row["config_version"]) for row in await rows(database)]
    mini, usual = ("gpt-4o-mini", "chat@2"), ("gpt-4o", "chat@1")
    assert served_by == [mini, usual, mini, mini, usual]


async def test_the_ten_lines_of_the_documentation_connect_an_application(
    served: Served, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await first_config(database, "chat-service", "gpt-4o")
    _, canary, control = await split(database, "chat-service")
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {
        **globals(),
        "os": os,
        "OpenAIInstrumentor": GenAI,
        "DEFAULT": {"model": "gpt-4o"},
    }
    async with served() as client:

        def run() -> None:
            with provider() as base_url:
                monkeypatch.setenv("OPENAI_BASE_URL", base_url)
                exec(snippet, names)
                try:
                    for unit in (canary, control):
                        names["answer"](unit, [{"role": "user", "content": "a question"}])
                finally:
                    GenAI().uninstrument()
                    names["tracers"].shutdown()
                    openfeature.clear_providers()

        monkeypatch.setenv("OPTIMIZER_URL", str(client.base_url))
        monkeypatch.setenv("OPTIMIZER_API_KEY", ADMIN_KEY)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        await asyncio.to_thread(run)
    served_by = [(row["model"], row["config_version"]) for row in await rows(database)]
    assert served_by == [("gpt-4o-mini", "chat-service@2"), ("gpt-4o", "chat-service@1")]
