"""Settings: arguments, then environment, then secret files, then YAML, then defaults."""

import os
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from domain.addresses import names_private_host
from domain.policy import STEP_SECONDS
from domain.rate_limits import RateLimits
from domain.scope import ServiceName
from domain.webhooks import WebhookRequest

PREFIX = "OPTIMIZER_"
# Read by the SDK and by `replay`, or by `load` itself.
_KNOWN_BESIDES = frozenset({"OPTIMIZER_TEMPORAL_UI", "OPTIMIZER_SECRETS_DIR"})


class SettingsError(Exception):
    """A setting is wrong or unknown; the message names it."""


def _postgresql(url: str | None) -> str | None:
    if url is None:
        return None
    # Here, so that what has no database does without its library.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        driver = make_url(url).get_backend_name()
    except ArgumentError:
        driver = None
    if driver not in ("postgresql", "postgres"):
        raise ValueError("must be postgresql://user:password@host:port/database")
    return url


def _redis(url: str | None) -> str | None:
    if url is not None and not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must be redis://:password@host:port/0")
    return url


def _http(url: str | None) -> str | None:
    parts = urlsplit(url or "")
    if url is not None and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must be http://host:port or https://host")
    return url


def _shared(name: str) -> AliasChoices:
    """A setting whose environment variable is that of the other system, without our prefix."""
    return AliasChoices(name.upper(), name)


class SidecarSettings(BaseModel):
    """Of `llm-optimizer sidecar` alone. `service` is whose configuration `/config/current` tells.

    `spool_items` and `spool_bytes` are what may wait on disk for the server at most.
    """

    model_config = ConfigDict(extra="forbid")

    upstream: Annotated[str | None, AfterValidator(_http)] = None
    port: Annotated[int, Field(ge=0, le=65535)] = 9090
    service: ServiceName | None = None
    spool_items: Annotated[int, Field(ge=1)] = 1_000_000
    spool_bytes: Annotated[int, Field(ge=1)] = 512 * 1024 * 1024


class Settings(BaseSettings):
    """Everything that can be set. `OPTIMIZER_CONFIG` names a YAML file with the same names.

    What is None of PostgreSQL, Redis and Temporal is started by `dev`. A port of 0 is a free one. `webhooks`
    are the file's endpoints, beside those that are made over the API.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        populate_by_name=True,
    )

    database_url: Annotated[str | None, AfterValidator(_postgresql)] = Field(
        default=None, validation_alias=_shared("database_url")
    )
    redis_url: Annotated[str | None, AfterValidator(_redis)] = Field(
        default=None, validation_alias=_shared("redis_url")
    )
    temporal_address: str | None = Field(default=None, validation_alias=_shared("temporal_address"))
    temporal_namespace: str = Field(default="default", validation_alias=_shared("temporal_namespace"))
    temporal_tls: bool = Field(default=False, validation_alias=_shared("temporal_tls"))
    temporal_api_key: SecretStr | None = Field(default=None, validation_alias=_shared("temporal_api_key"))
    api_key: SecretStr | None = None
    data_dir: Path = Field(default_factory=lambda: default_data_dir())
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    grpc: bool = True
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = 50051
    step_seconds: Annotated[float, Field(ge=0.1, le=30 * 86_400)] = STEP_SECONDS
    rate_limits: RateLimits = RateLimits()
    sidecar: SidecarSettings = SidecarSettings()
    webhooks: list[WebhookRequest] | None = None
    webhooks_allow_private: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    config: Path | None = None

    @field_validator("webhooks")
    @classmethod
    def _each_url_once(cls, given: list[WebhookRequest] | None) -> list[WebhookRequest] | None:
        twice = [url for url, times in Counter(webhook.url for webhook in given or ()).items() if times > 1]
        if twice:
            raise ValueError(f"{twice[0]} is named twice")
        return given

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """YAML comes after the environment and the secret files."""
        sources = (init_settings, env_settings, file_secret_settings)
        file = os.environ.get(f"{PREFIX}CONFIG")
        return (*sources, YamlConfigSettingsSource(settings_cls, file)) if file else sources


def default_data_dir() -> Path:
    """Where `dev` keeps its data if nothing else is said."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "llm-auto-optimizer"


def load(**given: Any) -> Settings:
    """The settings, with what an argument gave (None: not given) before all else.

    Raises:
        SettingsError: a setting is unknown, wrong, or its file cannot be read.
    """
    _require_known(os.environ)
    file = os.environ.get(f"{PREFIX}CONFIG")
    if file and not Path(file).is_file():
        raise SettingsError(f"{PREFIX}CONFIG: no file {file}")
    present = {name: value for name, value in given.items() if value is not None}
    try:
        settings = Settings(_secrets_dir=os.environ.get(f"{PREFIX}SECRETS_DIR"), **present)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(fault) for fault in error.errors())) from None
    _require_public(settings)
    return settings


def _require_public(settings: Settings) -> None:
    for number, webhook in enumerate(settings.webhooks or ()):
        if not settings.webhooks_allow_private and names_private_host(webhook.url):
            raise SettingsError(
                f"{PREFIX}WEBHOOKS[{number}].url: {webhook.url} is not in the public internet; "
                f"{PREFIX}WEBHOOKS_ALLOW_PRIVATE allows it"
            )


def _require_known(environment: "os._Environ[str]") -> None:
    known = _KNOWN_BESIDES | {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    unknown = sorted(
        name for name in environment if name.startswith(PREFIX) and name.partition("__")[0] not in known
    )
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _explain(fault: Any) -> str:
    path = [str(part) for part in fault["loc"]]
    name = path[0].lower() if path else ""
    field: FieldInfo | None = Settings.model_fields.get(name)
    # What is in a list can only come from the file; the others have a variable of their own.
    listed = any(part.isdigit() for part in path)
    full = name.upper() + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path[1:])
    full = full if listed else "__".join((name, *path[1:])).upper()
    shown = full if field and field.validation_alias else f"{PREFIX}{full}"
    if fault["type"] == "extra_forbidden":
        return f"unknown setting {'.'.join(path)} ({shown})"
    return f"{shown}: {fault['msg'].removeprefix('Value error, ')}"


def require(settings: Settings, *names: str) -> None:
    """Require settings without which a command cannot run.

    Raises:
        SettingsError: one is missing.
    """
    missing = [name.upper() for name in names if getattr(settings, name) is None]
    if missing:
        raise SettingsError(f"{', '.join(missing)} must be set (or use `llm-optimizer dev`)")
