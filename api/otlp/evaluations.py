"""Events of how good an answer was, as evaluations of its call."""

import math
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from api.otlp import attributes
from api.otlp.attributes import Attributes, number, text
from api.otlp.batches import Problems

EVENT = "gen_ai.evaluation.result"
LABELS = {
    "pass": 1.0,
    "correct": 1.0,
    "relevant": 1.0,
    "fail": 0.0,
    "incorrect": 0.0,
    "not_relevant": 0.0,
}
"""The labels that OpenTelemetry names, as scores, for where there is no number."""
UNNAMED = "score"


def evaluations(span: Span, request_id: str | None, problems: Problems) -> Iterator[dict[str, Any]]:
    """The evaluations that a span's events make, one for each answer: its scores by name, and their mean.

    The answer is the one that the event names, else `request_id`. A score is 0..1, or 0 to what
    `llm_optimizer.evaluation.scale` of the event says. Explanations are passed over.
    """
    by_answer: dict[str | None, dict[str, float]] = {}
    times: dict[str | None, int] = {}
    for event in span.events:
        if event.name != EVENT:
            continue
        found = attributes.read(event.attributes)
        score, fault = _score(found)
        if score is None:
            problems.note(f"span {span.span_id.hex()}", fault)
            continue
        answer = text(found, "response") or request_id
        by_answer.setdefault(answer, {})[text(found, "evaluation") or UNNAMED] = score
        times[answer] = (event.time_unix_nano or span.end_time_unix_nano) // 1_000_000
    for answer, scores in by_answer.items():
        fields = {
            "timestamp": times[answer],
            "overallScore": sum(scores.values()) / len(scores),
            "dimensionScores": scores,
        }
        yield fields if answer is None else fields | {"requestId": answer}


def _score(found: Attributes) -> tuple[float | None, str]:
    """A score of 0..100, or what is wrong with it."""
    value, label, scale = number(found, "score"), text(found, "label"), number(found, "scale")
    if value is None and label is not None and label.lower() in LABELS:
        value, scale = LABELS[label.lower()], 1
    if value is None:
        return None, "gen_ai.evaluation.score.value is missing"
    top = 1 if scale is None else scale
    if not math.isfinite(top) or top <= 0:
        return None, "llm_optimizer.evaluation.scale must be more than 0"
    if not 0 <= value <= top:
        return None, f"gen_ai.evaluation.score.value is not 0..{top}, its llm_optimizer.evaluation.scale"
    return value / top * 100, ""
