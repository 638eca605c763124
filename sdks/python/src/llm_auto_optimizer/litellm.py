"""Reports LiteLLM's calls: `litellm.callbacks = [OptimizerLogger(client, service=..., endpoint=...)]`."""

from __future__ import annotations

from typing import Any

from litellm.integrations.custom_logger import CustomLogger  # type: ignore[import-not-found, unused-ignore]  # whoever uses it has it

from llm_auto_optimizer._async_client import AsyncOptimizerClient
from llm_auto_optimizer._client import OptimizerClient


class OptimizerLogger(CustomLogger):  # type: ignore[misc, unused-ignore]  # Any where LiteLLM is not
    """Queues a report of each call. Calls that LiteLLM prices at nothing are left to the server to price."""

    def __init__(
        self, client: OptimizerClient | AsyncOptimizerClient, *, service: str, endpoint: str
    ) -> None:
        super().__init__()
        self._client = client
        self._service = service
        self._endpoint = endpoint

    def log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Of LiteLLM's own."""
        self._report(kwargs, start_time, end_time)

    def log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Of LiteLLM's own."""
        self._report(kwargs, start_time, end_time)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Of LiteLLM's own."""
        self._report(kwargs, start_time, end_time)

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Of LiteLLM's own."""
        self._report(kwargs, start_time, end_time)

    def _report(self, kwargs: dict[str, Any], start_time: Any, end_time: Any) -> None:
        logged = kwargs.get("standard_logging_object")
        if not isinstance(logged, dict):
            self._client.drop_report("LiteLLM gave no standard_logging_object")
            return
        tokens = (logged.get("prompt_tokens") or 0, logged.get("completion_tokens") or 0)
        metric: dict[str, Any] = {
            "timestamp": int(end_time.timestamp() * 1000),
            "service": self._service,
            "endpoint": self._endpoint,
            "provider": logged.get("custom_llm_provider") or "unknown",
            "model": logged.get("model") or "unknown",
            "latencyMs": (end_time - start_time).total_seconds() * 1000,
            "tokensInput": tokens[0],
            "tokensOutput": tokens[1],
            "tokensTotal": sum(tokens),
            "statusCode": 200,
            "tags": {"requestId": str(logged["id"])} if logged.get("id") else {},
        }
        if logged.get("response_cost"):
            metric["costUsd"] = logged["response_cost"]
        if logged.get("status") == "failure":
            error = logged.get("error_information") or {}
            code = str(error.get("error_code") or "")
            metric["statusCode"] = int(code) if code.isdigit() and int(code) >= 400 else 500
            metric["errorType"] = error.get("error_class") or "Error"
        self._client.queue_metric(metric)
