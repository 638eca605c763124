"""Examples of the ledger's answers: one deployment that did as was promised."""

from typing import Any

Json = dict[str, Any]

_PROMISED = {"mean": 0.00034, "low": 0.00031, "high": 0.00037, "samples": 0}
_ONE_HELD = {
    "predictions": 1,
    "held": 1,
    "coverage": {"value": 1.0, "low": 0.025, "high": 1.0},
    "standardisedBias": -0.18,
    "standardisedSpread": 0.18,
    "note": "Not enough yet: 1 measured, of 10 needed to judge by.",
}
_OF_COST = _ONE_HELD | {"bias": -0.011, "sharpness": 0.0923, "metric": "cost.avg", "widening": 1.0}
_MEASURED_SAVINGS = {"requests": 630, "usd": 3.19, "low": 3.02, "high": 3.34}
_PROJECTED_SAVINGS = {"requests": 12_370, "usd": 62.72, "low": 59.38, "high": 65.56}
_BOTH_SAVINGS = {"requests": 13_000, "usd": 65.91, "low": 62.4, "high": 68.9}
_EXPECTED_SAVINGS = {"requests": 13_000, "usd": 67.08, "low": 66.69, "high": 67.47}


def calibration(deployment: str, began: int, ended: int) -> Json:
    """The calibration by one deployment, with its one entry."""
    return {
        "predictions": {"measured": 1, "pending": 0, "unmeasured": 0},
        "overall": _ONE_HELD,
        "metrics": [_OF_COST],
        "services": [{"service": "chat-service", "overall": _ONE_HELD, "metrics": [_OF_COST]}],
        "confidence": {
            "plans": 1,
            "baseRate": 1.0,
            "brier": 0.0009,
            "reliability": 0.0009,
            "resolution": 0.0,
            "uncertainty": 0.0,
            "withinBins": 0.0,
            "bins": [
                *({"low": low / 5, "high": (low + 1) / 5, "plans": 0} for low in range(4)),
                {
                    "low": 0.8,
                    "high": 1.0,
                    "plans": 1,
                    "confidence": 0.97,
                    "cameTrue": {"value": 1.0, "low": 0.025, "high": 1.0},
                },
            ],
            "note": "Not enough yet: 1 measured, of 10 needed to judge by.",
        },
        "largestWidening": 4.0,
        "total": 1,
        "entries": [_entry(deployment, began, ended)],
    }


def savings(deployment: str, began: int, ended: int) -> Json:
    """What one deployment saved."""
    return {
        "total": 1,
        "sums": {
            "deployments": 1,
            "unmeasured": 0,
            "measured": _MEASURED_SAVINGS,
            "projected": _PROJECTED_SAVINGS,
            "both": _BOTH_SAVINGS,
            "expected": _EXPECTED_SAVINGS,
            "cameTo": _BOTH_SAVINGS,
        },
        "deployments": [
            {
                "deploymentId": deployment,
                "service": "chat-service",
                "scope": "chat-service",
                "fromVersion": "chat-service@1",
                "toVersion": "chat-service@2",
                "status": "completed",
                "openedAt": began,
                "settledAt": ended,
                "control": 0.0054,
                "canary": 0.00033,
                "promised": {"usd": 0.00516, "low": 0.00513, "high": 0.00519},
                "showed": {"usd": 0.00507, "low": 0.0048, "high": 0.0053},
                "measured": _MEASURED_SAVINGS,
                "projected": _PROJECTED_SAVINGS,
                "expected": _EXPECTED_SAVINGS,
            }
        ],
    }


def _entry(deployment: str, began: int, ended: int) -> Json:
    return {
        "deploymentId": deployment,
        "service": "chat-service",
        "scope": "chat-service",
        "metric": "cost.avg",
        "openedAt": began,
        "settledAt": ended,
        "outcome": "completed",
        "stopped": False,
        "predicted": _PROMISED,
        "incumbent": 0.0055,
        "widening": 1.0,
        "measured": {
            "control": 0.0054,
            "canary": 0.00033,
            "difference": -0.00507,
            "low": -0.0053,
            "high": -0.0048,
            "effect": -2.795,
            "se": 0.02,
            "seAnytime": 0.033,
            "samples": {"control": 1900, "canary": 630},
        },
        "comparison": {
            "predicted": -2.784,
            "measured": -2.795,
            "error": -0.011,
            "sd": 0.0563,
            "se": 0.02,
            "standardised": -0.18,
            "held": True,
            "need": 0.0,
        },
    }
