"""The verdict of a look: go on, roll back, or, at a step's end, leave the step or not."""

from typing import NamedTuple

from pydantic import Field

from domain.base import Message
from domain.deployment import GuardrailReading, RollbackTrigger, Verdict
from domain.gate import wording
from domain.gate.evidence import Finding, combined, findings
from domain.gate.readings import reading, trigger
from domain.gate.settings import METRIC_OF, GateSettings
from domain.gate.state import GateState


class Judgement(Message):
    """What the gate says, and why.

    `evidence` and `proof` are e-values per guardrail (errors, tail, latency, cost, quality): of harm, and
    that critical harm is ruled out. `missing` names the metrics left out for want of data. `mismatch` is the
    e-value against the split. `needs_approval`: the model changed and no quality was measured, so that a
    person has to agree before full exposure.
    """

    verdict: Verdict
    reason: str
    combined: float
    evidence: dict[str, float]
    proof: dict[str, float]
    mismatch: float
    guardrails: list[GuardrailReading]
    missing: list[str] = Field(default_factory=list)
    triggers: list[RollbackTrigger] = Field(default_factory=list)
    needs_approval: bool = False


class _Look(NamedTuple):
    state: GateState
    settings: GateSettings
    found: list[Finding]
    combined: float
    mismatch: float

    @property
    def present(self) -> list[Finding]:
        return [finding for finding in self.found if finding.present]

    @property
    def suspects(self) -> list[Finding]:
        return [finding for finding in self.present if finding.harm >= self.settings.suspicion]

    @property
    def split_is_off(self) -> bool:
        return self.mismatch >= 1 / self.settings.mismatch_level


def judge(
    state: GateState,
    settings: GateSettings,
    *,
    step_end: bool,
    before_full: bool = False,
    extension: int = 0,
    max_extensions: int = 3,
    model_changed: bool = False,
) -> Judgement:
    """The verdict on what `observe` has gathered.

    Unhealthy at any look once the combined evidence reaches 1/alpha. At `step_end`, inconclusive while the
    canary has too few requests, the split is off, a guardrail is suspect and an `extension` is left, or,
    `before_full` exposure (the end of the last step below 100 %), while a guardrail lacks its proof against
    critical harm. Else healthy. Extensions cost nothing statistically.
    """
    found = findings(state, settings)
    look = _Look(state, settings, found, combined(found), state.split.mismatch(settings.effective_units))
    missing = [METRIC_OF[finding.key] for finding in found if not finding.present]
    verdict, reason, causes = _decide(look, step_end, before_full, extension < max_extensions)
    notes = [reason]
    if missing:
        notes.append(wording.left_out(missing))
    unscored = model_changed and not _has_scores(state, settings)
    if unscored and before_full:
        notes.append(wording.UNSCORED_MODEL)
    return Judgement(
        verdict=verdict,
        reason=" ".join(notes),
        combined=look.combined,
        evidence={finding.key: finding.harm for finding in found},
        proof={finding.key: finding.proof for finding in found},
        mismatch=look.mismatch,
        guardrails=[reading(state, finding) for finding in found],
        missing=missing,
        triggers=[trigger(state, finding) for finding in causes],
        needs_approval=unscored and before_full,
    )


def _decide(
    look: _Look, step_end: bool, before_full: bool, extendable: bool
) -> tuple[Verdict, str, list[Finding]]:
    state, settings = look.state, look.settings
    threshold = 1 / settings.alpha
    if look.combined >= threshold:
        causes = look.suspects or [max(look.present, key=lambda finding: finding.harm)]
        return "unhealthy", wording.harm(state, causes, look.combined, threshold), causes
    standing = wording.standing(state, look.found, look.combined, threshold)
    if look.split_is_off:
        standing = f"{wording.split_off(state, look.mismatch)} {standing}"
    if not step_end:
        return "continue", standing, []
    doubt = _doubt(look, before_full, extendable)
    if doubt is not None:
        return "inconclusive", doubt, []
    return "healthy", standing, []


def _doubt(look: _Look, before_full: bool, extendable: bool) -> str | None:
    """Why the step cannot be left yet, if so."""
    state, settings = look.state, look.settings
    if state.canary_requests < settings.min_requests:
        return wording.too_few(state.canary_requests, settings.min_requests)
    if look.split_is_off:
        return wording.split_off(state, look.mismatch)
    if look.suspects and extendable:
        return wording.suspicion(state, look.suspects)
    needed = 1 / settings.beta
    unproven = [finding for finding in look.present if finding.proof < needed]
    if before_full and unproven:
        return wording.unproven(state, unproven, needed)
    return None


def _has_scores(state: GateState, settings: GateSettings) -> bool:
    if settings.quality.bound is not None:
        return state.quality.canary.n > 0
    return state.quality.pair.weight > 0
