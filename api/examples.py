"""Examples of requests and answers for the OpenAPI document, by operation id: one service's afternoon."""

from dataclasses import dataclass
from typing import Any

from api import examples_of_ledger, examples_of_protocols


@dataclass(frozen=True, slots=True)
class Example:
    """An answer, and the request's body where there is one."""

    response: Any = None
    request: Any = None


_BEGAN = 1_764_000_000_000
_HOUR = 3_600_000
_ENDED = _BEGAN + 1_200_000
_DEPLOYMENT = "dep_01KATQ5V3M8R6Z0B9N2C4D7E1F"
_RUN = "opt_01KATQ5P0W2Y4X6V8T1S3R5Q7P"
_EVENT = "evt_01KATR9H5K7M9P1R3T5V7X9Z1B"
_WEBHOOK = "wh_01KATQ0A1B2C3D4E5F6G7H8J9K"
_DELIVERY = "whd_01KATR9J2M4P6R8T0V2X4Z6B8D"
_KEY = "key_01KATPZ9X7V5T3R1P9M7K5H3F1"

_PRESENT = {
    "provider": "openai",
    "model": "gpt-4o",
    "temperature": 0.7,
    "topP": 1.0,
    "maxTokens": 1024,
    "streaming": False,
    "functionCalling": False,
    "visionEnabled": False,
}
_BETTER = _PRESENT | {"model": "gpt-4o-mini"}
_VALID = {"isValid": True, "violations": []}

_CALL = {
    "timestamp": _BEGAN,
    "service": "chat-service",
    "endpoint": "/api/chat",
    "model": "gpt-4o",
    "provider": "openai",
    "latencyMs": 1234,
    "tokensInput": 150,
    "tokensOutput": 500,
    "tokensTotal": 650,
    "costUsd": 0.0054,
    "statusCode": 200,
    "tags": {"configVersion": "chat-service@1", "requestId": "call-4711"},
}
_EVALUATION = {
    "timestamp": _BEGAN + 5_000,
    "service": "chat-service",
    "requestId": "call-4711",
    "overallScore": 92,
    "dimensionScores": {"helpfulness": 95},
    "evaluationMethod": "llm-as-judge",
}
_ACCEPTED = {"accepted": 1, "rejected": 1, "errors": [{"index": 1, "reason": "latencyMs: expected `float`"}]}

_ROLLOUT = {
    "deploymentId": _DEPLOYMENT,
    "trafficPercent": 25.0,
    "watchedUntil": _BEGAN + 390_000,
    "control": {"version": "chat-service@1", "config": _PRESENT},
    "canary": {"version": "chat-service@2", "config": _BETTER},
}
_VERSION = {
    "version": "chat-service@2",
    "scope": "chat-service",
    "config": _BETTER,
    "createdAt": _BEGAN,
    "createdBy": "optimizer",
    "changeType": "automatic",
    "reason": "cost.avg 94 % lower at a quality of 86 [82..90], within its bound of 80",
    "deploymentId": _DEPLOYMENT,
    "derivedFrom": "chat-service@1",
}
_UPDATED = {
    "success": True,
    "version": "chat-service@2",
    "validationResult": _VALID,
    "deploymentId": _DEPLOYMENT,
}

_READING = {
    "metric": "cost.avg",
    "control": 0.0054,
    "canary": 0.00033,
    "difference": -0.00507,
    "low": -0.0053,
    "high": -0.0048,
    "evidence": 0.002,
    "samples": {"control": 1900, "canary": 630},
}
_DEPLOYED = {
    "deploymentId": _DEPLOYMENT,
    "scope": "chat-service",
    "strategy": "canary",
    "fromVersion": "chat-service@1",
    "toVersion": "chat-service@2",
    "status": "running",
    "progress": 25.0,
    "trafficPercent": 25.0,
    "startedAt": _BEGAN,
    "reason": "cheaper at the same quality",
    "steps": [
        {
            "percent": 5.0,
            "startedAt": _BEGAN,
            "endedAt": _BEGAN + 300_000,
            "extensions": 0,
            "verdict": "healthy",
            "guardrails": [_READING],
        },
        {"percent": 25.0, "startedAt": _BEGAN + 300_000, "extensions": 0, "guardrails": []},
        {"percent": 50.0, "extensions": 0, "guardrails": []},
        {"percent": 100.0, "extensions": 0, "guardrails": []},
    ],
}
_BECAUSE = Example(_DEPLOYED, {"reason": "the release waits for it"})

_PREDICTIONS = {
    "cost.avg": {"mean": 0.00033, "low": 0.0003, "high": 0.00036, "samples": 8000},
    "quality.avg": {"mean": 86.0, "low": 82.0, "high": 90.0, "samples": 1200},
}
_PLAN = {
    "service": "chat-service",
    "recommendedConfig": _BETTER,
    "expectedImprovement": {"cost.avg": 0.94, "quality.avg": -0.01},
    "predictions": _PREDICTIONS,
    "confidence": 0.97,
    "rationale": "openai/gpt-4o-mini: cost.avg 94 % lower at a quality of 86 [82..90]",
    "alternatives": [],
    "source": "model",
}
_RUN_STATUS = {
    "id": _RUN,
    "status": "completed",
    "progress": 100,
    "currentPhase": "act",
    "result": {
        "decision": "optimize",
        "reasoning": "openai/gpt-4o-mini: cost.avg 94 % lower",
        "plans": [_PLAN],
        "deployments": [
            {
                "service": "chat-service",
                "deploymentId": _DEPLOYMENT,
                "configVersion": "chat-service@2",
                "status": "completed",
            }
        ],
        "changesApplied": True,
        "improvements": {"cost.avg": 0.94},
        "durationMs": 2100,
    },
}

_RULE = {
    "id": "fall-back",
    "priority": 1,
    "condition": {"metric": "errors.rate", "op": ">", "value": 0.05, "window": "5m", "forWindows": 3},
    "action": {"type": "model_switch", "provider": "openai", "model": "gpt-4o-mini"},
    "cooldownMs": _HOUR,
}
_FIRED = {"at": _BEGAN, "words": "errors.rate 0.08 > 0.05 over 5m, in each of 3 windows"}

_GIVEN_POLICY = {
    "objectives": [{"metric": "cost.avg", "goal": "minimize", "weight": 1.0}],
    "constraints": [{"type": "hard", "metric": "quality.avg", "min": 80.0}],
    "searchSpace": {
        "models": [
            {"provider": "openai", "model": "gpt-4o"},
            {"provider": "openai", "model": "gpt-4o-mini"},
        ]
    },
    "schedule": {"everySeconds": 3600, "enabled": True},
}
_POLICY = _GIVEN_POLICY | {
    "service": "chat-service",
    "rules": [],
    "rollout": {
        "strategy": "canary",
        "steps": [5.0, 25.0, 50.0, 100.0],
        "stepSeconds": 300.0,
        "checkSeconds": 30.0,
        "maxExtensions": 3,
        "onInconclusive": "hold",
        "approval": "none",
        "holdbackPercent": 5.0,
    },
    "guardrails": [],
    "triggers": [],
    "mode": "weighted",
    "maxRollbacksPerDay": 5,
    "breakerAfter": 3,
    "retentionDays": 90,
    "automatic": True,
}

_POINTS = {
    "metrics": [
        {
            "metric": "latency.p95",
            "dataPoints": [
                {"timestamp": _BEGAN, "value": 2310.0, "dimensions": {"model": "gpt-4o"}},
                {"timestamp": _BEGAN, "value": 1980.0, "dimensions": {"model": "gpt-4o-mini"}},
            ],
        }
    ]
}
_HISTORY = {
    "total": 1,
    "events": [
        {
            "id": f"{_DEPLOYMENT}/deployment",
            "timestamp": _BEGAN,
            "type": "deployment",
            "service": "chat-service",
            "triggeredBy": "timer",
            "previousConfig": _PRESENT,
            "proposedConfig": _BETTER,
            "decision": "optimize",
            "reasoning": "cheaper at the same quality",
            "confidence": 0.97,
            "predictedImprovement": {"cost.avg": 0.94},
            "actualImprovement": {"cost.avg": 0.94},
            "executed": True,
            "executionStrategy": "canary",
            "executionDurationMs": 1_200_000,
            "success": True,
        }
    ],
}
_BASELINES = {
    "baselines": [
        {
            "name": "chat-service/rolling",
            "description": "As it was lately: the reports from 2025-11-23 16:20 to 2025-11-24 16:20 UTC.",
            "createdAt": _ENDED,
            "metrics": {"latency.p95": 2310.0, "cost.avg": 0.0054, "errors.rate": 0.002},
            "sampleSize": 172_000,
        }
    ]
}
_GOLDEN = {
    "name": "chat-service/golden",
    "description": "Set by hand, by ops: the reports from 2025-11-23 16:00 to 2025-11-24 16:00 UTC.",
    "createdAt": _ENDED,
    "metrics": {"latency.p95": 2280.0, "cost.avg": 0.0054, "errors.rate": 0.002},
    "sampleSize": 171_000,
}
_ANOMALY = {
    "id": "ano_01KATS2B4D6F8H0K2M4P6R8T0V",
    "service": "chat-service",
    "window": "1m",
    "configVersion": "chat-service@2",
    "metric": "latency.p95",
    "direction": "up",
    "harmful": True,
    "severity": "high",
    "confidence": 0.56,
    "detector": "ewma_fast",
    "strength": 2.4,
    "value": 5120.0,
    "low": 1640.0,
    "high": 3010.0,
    "startedAt": _BEGAN,
    "lastAt": _BEGAN + 540_000,
    "endedAt": _BEGAN + 720_000,
    "windows": 9,
}
_TREND = {
    "service": "chat-service",
    "window": "7d",
    "deseasonalised": True,
    "computedAt": _ENDED,
    "metric": "cost.avg",
    "direction": "up",
    "slopePerHour": 0.000004,
    "change": 0.12,
    "p": 0.004,
    "significant": True,
    "n": 84,
    "effectiveN": 31.5,
    "forecast": [{"at": _ENDED + _HOUR, "mean": 0.0061, "low": 0.0055, "high": 0.0067}],
}
_COMPARED = {
    "service": "chat-service",
    "computedAt": _ENDED,
    "metric": "latency.p95",
    "method": "same-hour",
    "before": 2290.0,
    "now": 2710.0,
    "change": 0.183,
    "low": 190.0,
    "high": 650.0,
    "p": 0.002,
    "adjustedP": 0.014,
    "significant": True,
    "n": 14,
}

_CHANGED = {
    "id": _EVENT,
    "type": "config.changed",
    "timestamp": _ENDED,
    "scope": "chat-service",
    "data": {
        "previousVersion": "chat-service@1",
        "newVersion": "chat-service@2",
        "previousConfig": _PRESENT,
        "newConfig": _BETTER,
        "changeType": "automatic",
        "changedBy": "optimizer",
        "reason": "cheaper at the same quality",
    },
}

_GIVEN_WEBHOOK = {
    "url": "https://api.example.com/webhooks/optimizer",
    "events": ["config.changed", "rollback.triggered"],
    "headers": {"Authorization": "Bearer <token>"},
    "retryPolicy": {"maxRetries": 3, "backoff": "exponential"},
}
_MADE_WEBHOOK = {
    "id": _WEBHOOK,
    "url": "https://api.example.com/webhooks/optimizer",
    "events": ["config.changed", "rollback.triggered"],
    "headerNames": ["Authorization"],
    "hasSecret": False,
    "retryPolicy": {
        "maxRetries": 3,
        "backoff": "exponential",
        "initialDelayMs": 1000,
        "maxDelayMs": 3_600_000,
    },
    "enabled": True,
    "source": "api",
    "createdAt": _BEGAN,
    "createdBy": "ops",
    "updatedAt": _BEGAN,
}
_DELIVERED = {
    "id": _DELIVERY,
    "webhookId": _WEBHOOK,
    "eventId": _EVENT,
    "eventType": "config.changed",
    "status": "delivered",
    "attempts": 1,
    "responseStatus": 204,
    "durationMs": 41.5,
    "createdAt": _ENDED,
    "lastAttemptAt": _ENDED + 60,
    "endedAt": _ENDED + 60,
}
_AGAIN = {name: _DELIVERED[name] for name in ("id", "webhookId", "eventId", "eventType", "createdAt")} | {
    "status": "pending",
    "attempts": 0,
    "nextAttemptAt": _ENDED + _HOUR,
}

_GIVEN_KEY = {"name": "chat-service", "scopes": ["ingest", "read"]}
_SHOWN_KEY = {"id": _KEY, **_GIVEN_KEY, "createdAt": _BEGAN}
_ENTRY = {
    "sequence": 12,
    "timestamp": _BEGAN,
    "principalId": _KEY,
    "principalName": "ops",
    "action": "config.update",
    "target": "chat-service",
    "requestId": "req_5f3a9c0e1b2d4a6800000001",
    "details": {"version": "chat-service@2", "reason": "cheaper", "deploymentId": _DEPLOYMENT},
}

_CONTEXT = {"context": {"targetingKey": "user-17"}}

EXAMPLES: dict[str, Example] = {
    "reportMetrics": Example(_ACCEPTED, {"metrics": [_CALL]}),
    "reportQuality": Example({"accepted": 1, "rejected": 0}, {"evaluations": [_EVALUATION]}),
    "getCurrentConfig": Example(
        {"version": "global@1", "config": _PRESENT, "appliedAt": _BEGAN, "appliedBy": "ops"}
    ),
    "getServiceConfig": Example(
        {
            "service": "chat-service",
            "version": "chat-service@2",
            "config": _BETTER,
            "overrides": {"model": "gpt-4o-mini"},
            "rollout": _ROLLOUT,
        }
    ),
    "evaluateFlag": Example(examples_of_protocols.flag("model", "gpt-4o-mini"), _CONTEXT),
    "evaluateFlags": Example(examples_of_protocols.flags(_BETTER), _CONTEXT),
    "exportTraces": Example({}, examples_of_protocols.spans(_BEGAN)),
    "exportMetrics": Example({}, examples_of_protocols.histograms(_BEGAN)),
    "updateConfig": Example(
        _UPDATED,
        {
            "service": "chat-service",
            "config": _BETTER,
            "reason": "cheaper at the same quality",
            "deploymentStrategy": "canary",
        },
    ),
    "rollBackConfig": Example(
        _UPDATED | {"version": "chat-service@3"},
        {"version": "chat-service@1", "reason": "the new one is too terse"},
    ),
    "diffConfigs": Example(
        {
            "from": "chat-service@1",
            "to": "chat-service@2",
            "changes": [{"field": "model", "from": "gpt-4o", "to": "gpt-4o-mini"}],
        }
    ),
    "listConfigVersions": Example({"total": 1, "versions": [_VERSION]}),
    "getConfigVersion": Example(_VERSION),
    "triggerOptimization": Example(
        {"optimizationId": _RUN, "status": "queued", "eta": 2100},
        {"services": ["chat-service"], "dryRun": False},
    ),
    "listOptimizations": Example({"total": 1, "optimizations": [_RUN_STATUS]}),
    "getOptimization": Example(_RUN_STATUS),
    "listDeployments": Example({"total": 1, "deployments": [_DEPLOYED]}),
    "getDeployment": Example(_DEPLOYED),
    "pauseDeployment": _BECAUSE,
    "resumeDeployment": _BECAUSE,
    "approveDeployment": _BECAUSE,
    "promoteDeployment": _BECAUSE,
    "abortDeployment": _BECAUSE,
    "listServices": Example({"total": 1, "services": [_POLICY]}),
    "getService": Example(_POLICY),
    "putService": Example(_POLICY, _GIVEN_POLICY),
    "getWatch": Example(
        {
            "service": "chat-service",
            "state": "running",
            "standing": [
                {
                    "kind": "rule",
                    "id": "fall-back",
                    "truth": "holds",
                    "words": _FIRED["words"],
                    "waits": "its cooldown has 1840 s left",
                    "lastFiredAt": _BEGAN,
                    "lastWords": _FIRED["words"],
                }
            ],
            "brakes": {
                "breaker": "closed",
                "failures": [_DEPLOYMENT],
                "rollbacks": 1,
                "maxRollbacksPerDay": 5,
            },
        }
    ),
    "dryRunRules": Example(
        {
            "start": _BEGAN - _HOUR,
            "end": _BEGAN,
            "stepMs": 60_000,
            "moments": 61,
            "rules": [{"rule": "fall-back", "firings": 1, "fired": [_FIRED], "held": 2, "unknown": 0}],
        },
        {"rules": [_RULE], "start": _BEGAN - _HOUR, "end": _BEGAN},
    ),
    "getMetrics": Example(_POINTS),
    "queryMetrics": Example(
        _POINTS,
        {
            "services": ["chat-service"],
            "metrics": ["latency.p95"],
            "timeRange": {"start": _BEGAN, "end": _BEGAN + _HOUR},
            "groupBy": ["model"],
        },
    ),
    "getHistory": Example(_HISTORY),
    "listAnomalies": Example({"total": 1, "anomalies": [_ANOMALY]}),
    "listTrends": Example({"total": 1, "trends": [_TREND]}),
    "listChanges": Example({"total": 1, "changes": [_COMPARED]}),
    "setGoldenBaseline": Example(
        _GOLDEN,
        {"service": "chat-service", "start": _BEGAN - 24 * _HOUR, "end": _BEGAN},
    ),
    "removeGoldenBaseline": Example(_GOLDEN),
    "getBaselines": Example(_BASELINES),
    "getCalibration": Example(examples_of_ledger.calibration(_DEPLOYMENT, _BEGAN, _ENDED)),
    "getSavings": Example(examples_of_ledger.savings(_DEPLOYMENT, _BEGAN, _ENDED)),
    "listEvents": Example({"total": 1, "events": [_CHANGED]}),
    "listWebhooks": Example({"total": 1, "webhooks": [_MADE_WEBHOOK]}),
    "createWebhook": Example(_MADE_WEBHOOK, _GIVEN_WEBHOOK),
    "getWebhook": Example(_MADE_WEBHOOK),
    "replaceWebhook": Example(_MADE_WEBHOOK, _GIVEN_WEBHOOK),
    "deleteWebhook": Example(_MADE_WEBHOOK),
    "listDeliveries": Example({"total": 1, "deliveries": [_DELIVERED]}),
    "redeliver": Example(_AGAIN),
    "pause": Example({"paused": True, "pausedAt": _BEGAN, "reason": "a release"}, {"reason": "a release"}),
    "resume": Example({"paused": False}, {"reason": "the release is out"}),
    "emergencyStop": Example(
        {"stopped": True, "safeMode": True, "timestamp": _BEGAN}, {"reason": "answers are wrong"}
    ),
    "createKey": Example(_SHOWN_KEY | {"key": "lao_<43 characters, shown this once>"}, _GIVEN_KEY),
    "listKeys": Example({"total": 1, "keys": [_SHOWN_KEY]}),
    "revokeKey": Example(_SHOWN_KEY | {"revoked": True}),
    "listAuditEntries": Example({"total": 1, "entries": [_ENTRY]}),
    "getHealth": Example(
        {
            "status": "healthy",
            "version": "0.1.0",
            "uptime": _HOUR,
            "checks": [{"name": "postgresql", "healthy": True, "latency": 0.8}],
        }
    ),
    "getStatus": Example(
        {
            "mode": "standalone",
            "controlLoop": {"state": "MONITORING", "lastRun": _BEGAN, "nextRun": _BEGAN + _HOUR},
            "deployments": {"active": 1, "pending": 0},
            "metrics": {"bufferSize": 0, "ingestionRate": 20.4, "lastFlush": _BEGAN},
            "resources": {"memoryUsageMb": 184.2, "cpuUsagePercent": 3.1},
        }
    ),
    "getLiveness": Example({"status": "ok"}),
    "getReadiness": Example({"status": "ok"}),
}
