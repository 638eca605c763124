"""Events of the history, told from their records. Their ids derive from those of the records."""

from typing import Any

from domain.analysis.analysis import Analysis
from domain.deployment import OPEN_STATUSES, RollbackTrigger
from domain.deployment import Rollback as TakenBack
from domain.optimization_event import OptimizationEvent
from domain.plan import Decision, OptimizationPlan
from storage.brakes import BY_RULE
from storage.tables import Optimization, OptimizedService, Rollout


def analysis(run: Optimization, part: OptimizedService, *, at: int) -> OptimizationEvent:
    """How a service stood when a run looked at it, and which decision that led to."""
    return _told(
        id=f"{run.id}/{part.service}/analysis",
        timestamp=at,
        type="analysis",
        service=part.service,
        triggeredBy=run.triggered_by,
        triggerDetails=_of_run(run),
        previousConfig=(part.observation or {}).get("incumbent"),
        decision=_decision(part),
        reasoning=f"{Analysis.model_validate(part.analysis).in_words()}." if part.analysis else "",
        executed=False,
    )


def decision(
    run: Optimization, part: OptimizedService, rollout: Rollout | None, *, at: int
) -> OptimizationEvent:
    """What a run decided on a service, or why it came to no decision."""
    failed = run.status == "failed"
    reasons = (part.reasoning, run.reasoning, f"The run failed: {run.error}" if failed else None)
    return _told(
        id=f"{run.id}/{part.service}/decision",
        timestamp=at,
        type="decision",
        service=part.service,
        triggeredBy=run.triggered_by,
        triggerDetails=_of_run(run),
        previousConfig=(part.observation or {}).get("incumbent"),
        decision=_decision(part),
        reasoning=next((reason for reason in reasons if reason), ""),
        executed=rollout is not None,
        executionStrategy=rollout.strategy if rollout else None,
        errors=[run.error] if failed and run.error else None,
        **_planned(part),
    )


def deployment(
    rollout: Rollout,
    *,
    before: dict[str, Any],
    after: dict[str, Any],
    run: Optimization | None,
    part: OptimizedService | None,
    improvements: dict[str, float] | None,
    at: int,
) -> OptimizationEvent:
    """A rollout with what has come of it so far; `run` and `part` are those whose plan it carries out."""
    ended = rollout.status not in OPEN_STATUSES
    timed = rollout.started_at is not None and rollout.ended_at is not None
    ruled = rollout.change_type == "automatic" and rollout.changed_by == BY_RULE
    planned = _planned(part) if part else {}
    fault = (rollout.rollback or {}).get("reason") or rollout.error
    return _told(
        **planned
        | {
            "id": f"{rollout.id}/deployment",
            "timestamp": at,
            "type": "deployment",
            "service": rollout.scope,
            "triggeredBy": run.triggered_by if run else "threshold" if ruled else "manual",
            "triggerDetails": (_of_run(run) if run else {"by": rollout.changed_by})
            | {"deploymentId": rollout.id},
            "previousConfig": before,
            "proposedConfig": after,
            "decision": "rollback" if ruled else "optimize",
            "reasoning": rollout.reason,
            "actualImprovement": improvements,
            "executed": rollout.step >= 0,
            "executionStrategy": rollout.strategy,
            "executionDurationMs": (rollout.ended_at or 0) - (rollout.started_at or 0) if timed else None,
            "success": rollout.status == "completed" if ended else None,
            "errors": [fault] if fault else None,
        }
    )


def rollback(
    rollout: Rollout,
    *,
    served: dict[str, Any],
    restored: dict[str, Any],
    improvements: dict[str, float] | None,
    at: int,
) -> OptimizationEvent:
    """A rollout taken back: by a metric past its threshold, by another event, or by hand."""
    why = TakenBack.model_validate(rollout.rollback)
    return _told(
        id=f"{rollout.id}/rollback",
        timestamp=at,
        type="rollback",
        service=rollout.scope,
        triggeredBy=("threshold" if why.triggers else "event") if why.automatic else "manual",
        triggerDetails={"deploymentId": rollout.id, "triggers": [found.to_json() for found in why.triggers]},
        previousConfig=served,
        proposedConfig=restored,
        decision="rollback",
        reasoning=why.reason,
        actualImprovement=improvements,
        executed=True,
        executionStrategy="immediate",
        success=True,
        errors=[_past(found) for found in why.triggers] or None,
    )


def _told(**fields: Any) -> OptimizationEvent:
    return OptimizationEvent.model_validate(fields)


def _decision(part: OptimizedService) -> Decision:
    if part.ruling:
        return "rollback"
    return "optimize" if part.plan else "skip"


def _of_run(run: Optimization) -> dict[str, Any]:
    """Why a run came about, and which."""
    dry = {"dryRun": True} if run.request.get("dryRun") else {}
    return (run.trigger_details or {}) | {"optimizationId": run.id, "by": run.created_by} | dry


def _planned(part: OptimizedService) -> dict[str, Any]:
    """What a plan proposes and promises."""
    if part.plan is None:
        return {}
    plan = OptimizationPlan.model_validate(part.plan)
    return {
        "proposedConfig": plan.recommended_config,
        "confidence": plan.confidence,
        "predictedImprovement": plan.expected_improvement,
    }


def _past(trigger: RollbackTrigger) -> str:
    return f"{trigger.metric} was {trigger.actual:.4g}, past {trigger.threshold:.4g}"
