"""Which operations take what another one's answer gives, for the OpenAPI document."""

from typing import Any

_FROM: dict[str, dict[str, tuple[str, ...]]] = {
    # The operation, the pointer into its answer, and who takes what is there as which parameter.
    "createKey": {"id": ("revokeKey.keyId",)},
    "createWebhook": {
        "id": (
            "getWebhook.webhookId",
            "replaceWebhook.webhookId",
            "deleteWebhook.webhookId",
            "listDeliveries.webhookId",
        )
    },
    "triggerOptimization": {"optimizationId": ("getOptimization.optimizationId",)},
    "updateConfig": {
        "version": ("getConfigVersion.version", "diffConfigs.from", "diffConfigs.to"),
        "deploymentId": (
            "getDeployment.deploymentId",
            "pauseDeployment.deploymentId",
            "resumeDeployment.deploymentId",
            "approveDeployment.deploymentId",
            "promoteDeployment.deploymentId",
            "abortDeployment.deploymentId",
        ),
    },
}


def links_of(operation_id: str) -> dict[str, Any]:
    """The links of an operation's success, by the operation that they lead to."""
    links: dict[str, Any] = {}
    for field, takers in _FROM.get(operation_id, {}).items():
        for taker in takers:
            target, parameter = taker.split(".")
            link = links.setdefault(target, {"operationId": target, "parameters": {}})
            link["parameters"][parameter] = f"$response.body#/{field}"
    return links
