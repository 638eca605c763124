"""A tool that is missing is told of; in CI, that tests do without it is a failure."""

import pytest

from tests.sdks.tools import need


def test_what_is_there_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    need("sh", "env")


def test_what_is_missing_skips_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-go and no-node not installed"):
        need("no-go", "sh", "no-node")


def test_what_is_missing_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-go not installed"):
        need("sh", "no-go")
