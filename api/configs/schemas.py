"""Messages of the configuration endpoints."""

from typing import Any, Literal

from pydantic import Field

from domain.base import Message
from domain.config import LLMConfig
from domain.plan import ValidationResult
from domain.policy import Strategy
from domain.scope import EndpointName, ServiceName


class VersionedConfig(Message):
    """A version and its content."""

    version: str
    config: LLMConfig


class RolloutBlock(Message):
    """A rollout that runs over the scope: enough to assign units without a request per call."""

    deployment_id: str
    traffic_percent: float
    watched_until: int
    control: VersionedConfig
    canary: VersionedConfig


class ConfigResponse(Message):
    """The global configuration."""

    version: str
    config: LLMConfig
    applied_at: int
    applied_by: str
    rollout: RolloutBlock | None = None


class ServiceConfigResponse(Message):
    """A service's configuration; `overrides` are the fields that differ from the global one."""

    service: str
    version: str
    config: LLMConfig
    overrides: dict[str, Any] | None = None
    rollout: RolloutBlock | None = None


class ConfigUpdateRequest(Message):
    """A configuration for a service, an endpoint of it, or without a service for the global scope."""

    config: LLMConfig
    reason: str = Field(min_length=1, max_length=2000)
    deployment_strategy: Strategy | None = None
    validate_only: bool = False
    service: ServiceName | None = None
    endpoint: EndpointName | None = None


class ConfigUpdateResponse(Message):
    """`version` is, or will be, served; `unchanged` where it already was and nothing was done."""

    success: bool
    version: str | None = None
    validation_result: ValidationResult
    deployment_id: str | None = None
    unchanged: bool | None = None


class ConfigRollbackRequest(Message):
    """An earlier version, whose content its scope is to serve again."""

    version: str = Field(min_length=1, max_length=512)
    reason: str = Field(min_length=1, max_length=2000)
    deployment_strategy: Strategy | None = None
    validate_only: bool = False


class FieldChange(Message):
    """A field of two configurations that differs; `from` or `to` is absent where the field is."""

    field: str
    from_: Any = Field(default=None, alias="from")
    to: Any = None


class ConfigDiff(Message):
    """What changed from one version to another."""

    from_: str = Field(alias="from")
    to: str
    changes: list[FieldChange]


class ConfigVersionResponse(Message):
    """A version: what, who, when and why. Never edited."""

    version: str
    scope: str
    config: LLMConfig
    created_at: int
    created_by: str
    change_type: Literal["manual", "automatic"]
    reason: str
    deployment_id: str | None = None
    derived_from: str | None = None


class ConfigVersionList(Message):
    """A page of versions, the newest first, and how many there are."""

    total: int
    versions: list[ConfigVersionResponse]
