"""What a replay found."""

from dataclasses import dataclass
from typing import Any

from llm_auto_optimizer import Deployment, OptimizationStatus, Rollback, Step

from cli.replaying.options import ReplayOptions
from cli.replaying.tally import Tally, Totals
from cli.replaying.traffic import Traffic

_MONTH_SECONDS = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Saving:
    """What the canary cost less than the control beside it, per request and at the recorded rate."""

    control_usd: float
    canary_usd: float
    requests_per_second: float

    @property
    def fraction(self) -> float:
        return 1 - self.canary_usd / self.control_usd

    @property
    def usd_per_month(self) -> float:
        return (self.control_usd - self.canary_usd) * self.requests_per_second * _MONTH_SECONDS

    def to_json(self) -> dict[str, Any]:
        return {
            "controlUsdPerRequest": self.control_usd,
            "canaryUsdPerRequest": self.canary_usd,
            "fraction": self.fraction,
            "usdPerMonth": self.usd_per_month,
        }


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """How the optimizer decided, how the rollout went, and what was served before, meanwhile and after.

    `status` is the rollout's, `skipped` where there was nothing to roll out, `not_deployed` where the plan
    waits for a person. `ended` is False where the time limit came first. `saving` is None where a cost is
    not known or the change was not kept.
    """

    service: str
    decision: str
    reasoning: str
    status: str
    ended: bool
    from_version: str
    to_version: str
    steps: list[Step]
    rollback: Rollback | None
    before: Totals | None
    after: Totals | None
    control: Totals | None
    canary: Totals | None
    saving: Saving | None
    requests: int
    passes: int
    modelled: list[str]
    links: dict[str, str]

    @property
    def canary_requests(self) -> int:
        """How many requests the canary served while the rollout ran."""
        return 0 if self.canary is None else self.canary.requests

    def to_json(self) -> dict[str, Any]:
        """The report as one JSON object; steps and rollback as the API has them."""
        return {
            "service": self.service,
            "decision": self.decision,
            "reasoning": self.reasoning,
            "status": self.status,
            "ended": self.ended,
            "fromVersion": self.from_version,
            "toVersion": self.to_version,
            "steps": self.steps,
            "rollback": self.rollback,
            "before": _totals(self.before),
            "after": _totals(self.after),
            "control": _totals(self.control),
            "canary": _totals(self.canary),
            "saving": None if self.saving is None else self.saving.to_json(),
            "canaryRequests": self.canary_requests,
            "requests": self.requests,
            "passes": self.passes,
            "modelled": self.modelled,
            "links": self.links,
        }


def build_report(
    options: ReplayOptions,
    traffic: Traffic,
    tally: Tally,
    optimization: OptimizationStatus,
    deployment: Deployment | None,
    *,
    ended: bool,
) -> ReplayReport:
    """Puts together what the server says and what was sent."""
    result = optimization.get("result")
    before = tally.phase("before")
    present = "" if before is None else before.version
    return ReplayReport(
        service=options.service,
        decision=result["decision"] if result else "none",
        reasoning=result["reasoning"] if result else "the optimization had not ended",
        status=_status(result["decision"] if result else "none", deployment),
        ended=ended,
        from_version=deployment["fromVersion"] if deployment else present,
        to_version=deployment["toVersion"] if deployment else present,
        steps=deployment["steps"] if deployment else [],
        rollback=deployment.get("rollback") if deployment else None,
        before=before,
        after=tally.phase("after"),
        control=tally.arm("control"),
        canary=tally.arm("canary"),
        saving=_saving(tally, traffic.rate) if deployment and deployment["status"] == "completed" else None,
        requests=tally.sent,
        passes=traffic.passes,
        modelled=_modelled(options, traffic),
        links=_links(options, optimization["id"], deployment),
    )


def _status(decision: str, deployment: Deployment | None) -> str:
    if deployment is not None:
        return deployment["status"]
    return "skipped" if decision == "skip" else "not_deployed"


def _saving(tally: Tally, rate: float) -> Saving | None:
    control, canary = tally.arm("control"), tally.arm("canary")
    if control is None or canary is None or not control.cost_avg or canary.cost_avg is None:
        return None
    return Saving(control.cost_avg, canary.cost_avg, rate)


def _modelled(options: ReplayOptions, traffic: Traffic) -> list[str]:
    """What the files do not record, in sentences."""
    incumbent = options.models[0].name
    latency = "; ".join(
        f"{m.name} {m.first_token_ms:g} ms + tokens / {m.tokens_per_second:g} per s" for m in options.models
    )
    notes = [
        *options.notes,
        f"Latency is modelled: time to first token + answer tokens / decoding speed ({latency}).",
        f"Each request is given a question of {options.outcomes.name} at random (seed {options.seed}), the "
        "same one for every model; quality is 100 where the model's recorded answer is correct, else 0.",
        f"Answer tokens are the recorded ones for {incumbent}; for another model they are scaled by its "
        f"answer's tokens over {incumbent}'s to that question. None is longer than maxTokens.",
        "Cost is tokens x price, by the policy's prices or the list prices of genai-prices, as the server "
        "prices it. No request fails: neither file records errors. Only the model makes a difference here, "
        "not the temperature or other parameters.",
    ]
    if options.speed != 1:
        notes.append(f"Time runs {options.speed:g} times as fast: arrivals, steps and checks, not latency.")
    if traffic.passes > 1:
        notes.append(f"The arrivals were used {traffic.passes} times over.")
    return notes


def _links(options: ReplayOptions, optimization_id: str, deployment: Deployment | None) -> dict[str, str]:
    """Where to look: API paths, and the workflows in the Temporal UI, if its address is known."""
    api = options.endpoint.rstrip("/") + "/api/v1"
    workflow = f"optimization/{optimization_id}"
    links = {"optimization": f"{api}/optimize/{optimization_id}"}
    if deployment is not None:
        workflow = f"rollout/{deployment['deploymentId']}"
        links["deployment"] = f"{api}/deployments/{deployment['deploymentId']}"
    links["config"] = f"{api}/config/service/{options.service}"
    links["workflow"] = workflow
    if options.temporal_ui is not None:
        ui = options.temporal_ui.rstrip("/")
        links["temporalUi"] = f"{ui}/namespaces/default/workflows/{workflow.replace('/', '%2F')}"
    return links


def _totals(totals: Totals | None) -> dict[str, Any] | None:
    return None if totals is None else totals.to_json()
