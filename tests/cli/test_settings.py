"""Settings: where they come from, and that a wrong or unknown one is named."""

import os
from pathlib import Path

import pytest

from cli.settings import SettingsError, load, require
from tests.domain.test_webhooks import SPECIFIED


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("OPTIMIZER_", "TEMPORAL_")) or name in ("DATABASE_URL", "REDIS_URL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_defaults(tmp_path: Path) -> None:
    settings = load()
    assert (settings.port, settings.step_seconds, settings.temporal_namespace) == (8080, 300, "default")
    assert settings.data_dir == tmp_path / "llm-auto-optimizer"
    assert settings.database_url is None
    assert (settings.grpc, settings.grpc_port) == (True, 50051)


def test_grpc_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMIZER_GRPC", "false")
    assert not load().grpc


def test_arguments_come_before_environment_before_yaml(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "optimizer.yaml"
    file.write_text("port: 1111\nstep_seconds: 11\nlog_level: error\n")
    monkeypatch.setenv("OPTIMIZER_CONFIG", str(file))
    monkeypatch.setenv("OPTIMIZER_PORT", "2222")
    monkeypatch.setenv("OPTIMIZER_STEP_SECONDS", "22")
    settings = load(port=3333)
    assert (settings.port, settings.step_seconds, settings.log_level) == (3333, 22, "error")


def test_secrets_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "OPTIMIZER_API_KEY").write_text("from-a-file\n")
    monkeypatch.setenv("OPTIMIZER_SECRETS_DIR", str(tmp_path))
    key = load().api_key
    assert key is not None
    assert key.get_secret_value() == "from-a-file"


def test_other_systems_variables_have_no_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@db/optimizer")
    monkeypatch.setenv("REDIS_URL", "redis://cache:6379/0")
    monkeypatch.setenv("TEMPORAL_ADDRESS", "temporal:7233")
    settings = load()
    assert settings.database_url == "postgresql://me@db/optimizer"
    assert settings.redis_url == "redis://cache:6379/0"
    assert settings.temporal_address == "temporal:7233"


def test_rate_limits_are_set_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMIZER_RATE_LIMITS__WRITES", "7")
    monkeypatch.setenv("OPTIMIZER_RATE_LIMITS__REPORTS", "0")
    limits = load().rate_limits
    assert (limits.reports, limits.reads, limits.writes) == (0, 6000, 7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OPTIMIZER_PORT", "many"),
        ("OPTIMIZER_PORT", "70000"),
        ("OPTIMIZER_STEP_SECONDS", "0"),
        ("OPTIMIZER_LOG_LEVEL", "loud"),
        ("OPTIMIZER_RATE_LIMITS__READS", "-1"),
        ("OPTIMIZER_RATE_LIMITS__WRITES", "many"),
        ("OPTIMIZER_RATE_LIMITS__RAEDS", "1"),
        ("OPTIMIZER_PROT", "8080"),
        ("OPTIMIZER_CONFIG", "/nowhere/optimizer.yaml"),
        ("DATABASE_URL", "mysql://db/optimizer"),
        ("DATABASE_URL", "not an address"),
        ("REDIS_URL", "http://cache"),
    ],
)
def test_a_fault_names_its_setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=name):
        load()


def test_an_unknown_setting_in_yaml_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "optimizer.yaml"
    file.write_text("prot: 8080\n")
    monkeypatch.setenv("OPTIMIZER_CONFIG", str(file))
    with pytest.raises(SettingsError, match="prot"):
        load()


def webhooks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    file = tmp_path / "optimizer.yaml"
    file.write_text(text)
    monkeypatch.setenv("OPTIMIZER_CONFIG", str(file))


def test_webhooks_are_read_as_the_specification_writes_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    webhooks(monkeypatch, tmp_path, SPECIFIED)
    (webhook,) = load().webhooks or []
    assert webhook.url == "https://api.example.com/webhooks/optimizer"
    assert webhook.events is not None
    assert webhook.events[-1] == "rollback.triggered"
    assert webhook.headers == {"Authorization": "Bearer <token>"}
    assert (webhook.retry_policy.max_retries, webhook.retry_policy.backoff) == (3, "exponential")


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ("- events: [config.changed]", r"WEBHOOKS\[0\].url: Field required"),
        ("- url: ftp://example.com", r"WEBHOOKS\[0\].url: must begin with http"),
        ("- url: https://a.example\n- url: https://b.example\n  events: [x]", r"WEBHOOKS\[1\].events\[0\]: "),
        ("- url: https://a.example\n  retryPolicy: {maxRetries: x}", r"\[0\].retryPolicy.maxRetries: "),
        ("- url: https://a.example\n  evnts: []", r"unknown setting webhooks.0.evnts"),
        ("- url: https://a.example\n- url: https://a.example", r"WEBHOOKS: https://a.example is named twice"),
        ("- url: http://localhost/", r"WEBHOOKS\[0\].url: .* OPTIMIZER_WEBHOOKS_ALLOW_PRIVATE allows it"),
    ],
)
def test_a_wrong_webhook_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entries: str, fault: str
) -> None:
    webhooks(monkeypatch, tmp_path, f"webhooks:\n{entries}\n")
    with pytest.raises(SettingsError, match=fault):
        load()


def test_private_webhooks_may_be_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    webhooks(monkeypatch, tmp_path, "webhooks:\n- url: http://localhost/\n")
    monkeypatch.setenv("OPTIMIZER_WEBHOOKS_ALLOW_PRIVATE", "true")
    assert len(load().webhooks or []) == 1


def test_what_a_command_needs_is_named() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL, TEMPORAL_ADDRESS"):
        require(load(), "database_url", "temporal_address")


def test_the_sidecars_settings_are_its_own_and_arguments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTIMIZER_SIDECAR__UPSTREAM", "https://optimizer.example")
    monkeypatch.setenv("OPTIMIZER_SIDECAR__SPOOL_ITEMS", "7")
    settings = load(sidecar={"port": 1234}).sidecar
    assert (settings.upstream, settings.port, settings.spool_items) == ("https://optimizer.example", 1234, 7)
    assert load().sidecar.port == 9090
    monkeypatch.setenv("OPTIMIZER_SIDECAR__SERVICE", "no service")
    with pytest.raises(SettingsError, match="OPTIMIZER_SIDECAR__SERVICE"):
        load()
    with pytest.raises(SettingsError, match="must be http"):
        load(sidecar={"upstream": "optimizer:8080"})
