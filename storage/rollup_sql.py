"""How reports become rows of rollups, in SQL: the same where rollups are made and where their tail is read.

A rollup's row stands for the reports of one `bucket` of time that share all of `KEY`. `error` is NULL for
successes, else the kind of error. Scores have rows too, with the labels of their requests and `n` 0.
"""

from collections.abc import Iterable

from domain.sketches import LN_GAMMA, SMALLEST, ZERO_BIN

LABELS = ("service", "endpoint", "provider", "model", "config_version")
KEY = (*LABELS, "error")
AMOUNTS = {
    "latency": ("latency_sum", "latency_squares"),
    "cost": ("cost_n", "cost_sum", "cost_squares"),
    "tokens_input": ("tokens_input_sum", "tokens_input_squares"),
    "tokens_output": ("tokens_output_sum", "tokens_output_squares"),
    "tokens_total": ("tokens_total_sum", "tokens_total_squares"),
    "quality": ("quality_sum", "quality_squares", "quality_extremes"),
}
"""The columns that an amount has beside the counts."""
COUNTS = ("n", "quality_n")
WHOLE = frozenset({*COUNTS, "cost_n", "quality_extremes"})
"""The columns that count something; the others add values up."""
SUMS = (*COUNTS, *(column for columns in AMOUNTS.values() for column in columns))
SKETCHES = ("latency", "cost", "tokens_input", "tokens_output")

ERROR = (
    "CASE WHEN error_type IS NOT NULL THEN error_type WHEN status_code >= 400 THEN 'HTTP ' || status_code END"
)

_VALUES = {
    "latency": "r.latency_ms",
    "cost": "r.cost_usd",
    "tokens_input": "r.tokens_input",
    "tokens_output": "r.tokens_output",
    "tokens_total": "r.tokens_total",
}


def _sum(value: str) -> str:
    return f"coalesce(sum({value}), 0)::float8"


REQUEST_SUMS = {
    "n": "count(*)",
    "cost_n": "count(r.cost_usd)",
    **{f"{name}_sum": _sum(value) for name, value in _VALUES.items()},
    **{f"{name}_squares": _sum(f"{value}::float8 * {value}") for name, value in _VALUES.items()},
    "last_ts": "max(r.ts)",
}
SCORE_SUMS = {
    "quality_n": "count(*)",
    "quality_sum": _sum("r.overall_score"),
    "quality_squares": _sum("r.overall_score * r.overall_score"),
    "quality_extremes": "count(*) FILTER (WHERE r.overall_score IN (0, 100))",
}


def request_of_score(since: str) -> str:
    """Joins `m`, the request of a score `q`, if it arrived since `since`.

    That is to be a day before the first score, and a parameter as it is: what is computed of one rules out no
    partition beforehand.
    """
    # A new day's partition is unknown to the planner: `service || ''` keeps it from searching all of a
    # service's reports for each score. By the request's id it finds one row.
    return f"""
        LEFT JOIN LATERAL (
            SELECT m.config_version, m.provider, m.model, m.endpoint, m.tags FROM metrics m
            WHERE m.request_id = q.request_id AND m.service || '' = q.service
              AND m.received_at > q.received_at - interval '1 day'
              AND m.received_at < q.received_at + interval '1 day'
              AND m.received_at >= {since}
            LIMIT 1
        ) m ON q.request_id IS NOT NULL
    """


def requests(condition: str) -> str:
    """Requests as `r`, with their error."""
    return f"(SELECT *, {ERROR} AS error FROM metrics WHERE {condition}) r"


def scores(condition: str, since: str) -> str:
    """Scores as `r`, with the labels of their requests; a version of their own stands before.

    Requests are looked for from `since` on, as by `request_of_score`.
    """
    return f"""(
        SELECT q.received_at, q.ts, q.overall_score, q.service, m.endpoint, m.provider, m.model,
               COALESCE(q.config_version, m.config_version) AS config_version, NULL::text AS error,
               COALESCE(q.tags, '{{}}') || COALESCE(m.tags, '{{}}') AS tags
        FROM quality q {request_of_score(since)} WHERE {condition}
    ) r"""


def sketch_of(name: str) -> str:
    """A group's sketch, with a pair for each value."""
    value = _VALUES[name]
    of_positive = f"ceil(ln({value}::float8) / {LN_GAMMA})"
    number = f"CASE WHEN {value} > {SMALLEST} THEN {of_positive} ELSE {ZERO_BIN} END"
    pair = f"int2send(({number})::int2) || '\\x00000001'::bytea"
    return f"string_agg({pair}, ''::bytea) FILTER (WHERE {value} IS NOT NULL)"


def summed(made: dict[str, str], sums: Iterable[str], sketches: Iterable[str]) -> str:
    """A group's columns after its key: last_ts, `sums` and `sketches`; what there is not is 0."""
    values = [f"{made.get(name, '0')} AS {name}" for name in sums]
    last = f"{made.get('last_ts', 'NULL::timestamptz')} AS last_ts"
    of_requests = made is REQUEST_SUMS
    pairs = [f"{sketch_of(name) if of_requests else 'NULL::bytea'} AS {name}" for name in sketches]
    return ", ".join((last, *values, *pairs))
