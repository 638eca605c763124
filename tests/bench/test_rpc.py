"""gRPC's benchmark, in short; `python -m bench.rpc` runs it in full."""

import pytest

from api.grpc.messages import item_of
from bench.load import reports
from bench.rpc import judged, metric_of, run
from domain.label_limits import LabelLimits
from domain.reports import check_metrics


async def test_every_call_and_stream_is_measured() -> None:
    found = await run(rounds=1, seconds=0.2, callers=4, streams=20)
    assert set(found["calls"]) == {"bareCall", "getConfig", "restRead", "reportMetrics", "restReport"}
    assert min(min(figures.values()) for figures in found["calls"].values()) > 0
    micros = found["calls"]["restReport"]["micros"] / found["calls"]["reportMetrics"]["micros"]
    assert found["ratios"]["restReportOfReportMetrics"] == pytest.approx(micros, rel=0.01)
    assert 0 < found["stream"]["p50"] <= found["stream"]["p99"] <= found["stream"]["lastOfAll"]
    assert len(judged(found)) == 3


def test_the_metrics_are_the_reports() -> None:
    batch = reports(200, seed=3)
    taken = check_metrics([item_of(metric_of(one)) for one in batch], batch[0].timestamp, LabelLimits())
    assert taken.accepted == batch
