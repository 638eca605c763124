"""What each metric is, as an aggregate over rows of `metrics` (as `m`) or of `quality` (as `q`).

The same as what the gate and the decision read: latency and tokens are those of successes, tokens the mean of
a call; a cost that nobody knows counts neither as 0 nor for the mean.
"""

from storage.observations import FAILED

_LATENCY = f"percentile_cont({{}}) WITHIN GROUP (ORDER BY m.latency_ms) FILTER (WHERE NOT {FAILED})"
_TOKENS = f"avg(m.{{}}) FILTER (WHERE NOT {FAILED})"

OF_REQUESTS = {
    "latency.avg": f"avg(m.latency_ms) FILTER (WHERE NOT {FAILED})",
    "latency.p50": _LATENCY.format(0.5),
    "latency.p95": _LATENCY.format(0.95),
    "latency.p99": _LATENCY.format(0.99),
    "cost.avg": "avg(m.cost_usd)",
    "cost.total": "sum(m.cost_usd)",
    "errors.rate": f"avg({FAILED}::integer)",
    "errors.count": f"count(*) FILTER (WHERE {FAILED})",
    "tokens.input": _TOKENS.format("tokens_input"),
    "tokens.output": _TOKENS.format("tokens_output"),
    "tokens.total": _TOKENS.format("tokens_total"),
    "requests.count": "count(*)",
    "requests.rate": "count(*) / max(m.seconds)",
}
"""`m.seconds` is the length of the time that the rows are from."""

OF_SCORES = {"quality.avg": "avg(q.overall_score)"}
