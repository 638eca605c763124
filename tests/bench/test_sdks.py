"""The benchmark of the SDKs, which takes its figures from all three; `python -m bench.sdks` judges them."""

import json

import pytest

from bench.sdks.__main__ import MEASURED, QUEUED_MB
from tests.sdks.tools import need


@pytest.mark.parametrize("sdk", ["python", "node", "go"])
def test_every_sdk_is_measured(sdk: str) -> None:
    measure, _, needed = MEASURED[sdk]
    need(*needed)
    found = json.loads(measure().splitlines()[-1])
    assert 0 < found["bareUs"] < found["trackedUs"]
    assert 0 < found["queuedMB"] < QUEUED_MB
