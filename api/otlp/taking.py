"""Requests of OTLP from their message to their answer, whatever the way they came by."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import TypeVar

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from api.otlp import counting, points, spans
from api.otlp.batches import Item, Problems
from api.server import Server
from domain.idempotency import Answer
from domain.reports import Batch, MetricReport, QualityEvaluation, check_metrics, check_quality
from storage.telemetry import NewSpans, NewSteps, standing

T = TypeVar("T")
_TAKEN = Answer(200, {})


async def take_traces(
    server: Server, decode: Callable[[], ExportTraceServiceRequest]
) -> ExportTraceServiceResponse:
    """Keep the calls and evaluations that a request's spans tell of and that are new.

    Raises:
        InvalidRequest: there is no such message, as `decode` says.
        RateLimited, DatabaseError: they were not kept, or not all; those that were are known the next time.
    """
    server.intake.require_room(1, "commit")
    found = await _aside(server, lambda: spans.read(decode()))
    now = server.snapshot.now_ms()
    if found.calls:
        async with server.turns.next():
            calls = check_metrics([item.fields for item in found.calls], now, server.labels)
        new = _new(found.calls, calls, found.problems)
        await server.intake.metrics(calls.accepted, _TAKEN, new=new)
    if found.evaluations:
        async with server.turns.next():
            scores = check_quality([item.fields for item in found.evaluations], now, server.labels)
        new = _new(found.evaluations, scores, found.problems)
        await server.intake.quality(scores.accepted, _TAKEN, new=new)
    answer = ExportTraceServiceResponse()
    if found.problems.reasons:
        answer.partial_success.rejected_spans = found.problems.rejected
        answer.partial_success.error_message = found.problems.message
    return answer


async def take_points(
    server: Server, decode: Callable[[], ExportMetricsServiceRequest]
) -> ExportMetricsServiceResponse:
    """Keep the calls that a request's histograms have counted since they last came, as `take_traces` does."""
    server.intake.require_room(1, "commit")
    found = await _aside(server, lambda: points.read(decode()))
    problems = found.problems
    if found.durations:
        services = {point.calls.service for point in found.durations}
        known = await standing(server.database, services, [point.series for point in found.all])
        counted = await _aside(server, lambda: counting.count(found, known))
        problems.add(counted.problems)
        if counted.steps:
            async with server.turns.next():
                calls = check_metrics(counted.fields, server.snapshot.now_ms(), server.labels)
            await server.intake.metrics(calls.accepted, _TAKEN, new=_new_steps(counted, calls, problems))
    answer = ExportMetricsServiceResponse()
    if problems.reasons:
        answer.partial_success.rejected_data_points = problems.rejected
        answer.partial_success.error_message = problems.message
    return answer


async def _aside(server: Server, work: Callable[[], T]) -> T:
    """Work on a large message in a thread, one at a time: neither others nor memory are to suffer."""
    async with server.decoding:
        return await asyncio.to_thread(work)


def _new(
    items: list[Item], batch: Batch[MetricReport] | Batch[QualityEvaluation], problems: Problems
) -> NewSpans:
    bad = {rejection.index: rejection.reason for rejection in batch.rejected}
    for index, reason in bad.items():
        # A span is rejected for its call alone.
        problems.reject(items[index].where, reason, 0 if items[index].mark.part else 1)
    return NewSpans([item.mark for index, item in enumerate(items) if index not in bad])


def _new_steps(counted: counting.Counted, batch: Batch[MetricReport], problems: Problems) -> NewSteps:
    """The steps, their rows counted among the accepted ones."""
    bad = {rejection.index: rejection.reason for rejection in batch.rejected}
    kept = [0, *accumulate(index not in bad for index in range(len(counted.fields)))]
    for step in counted.steps:
        reason = next((bad[index] for index in range(step.first, step.last) if index in bad), None)
        if reason is not None:
            problems.reject(points.DURATION, reason)
    return NewSteps([replace(step, first=kept[step.first], last=kept[step.last]) for step in counted.steps])
