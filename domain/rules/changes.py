"""What a rule makes of a configuration."""

from domain.conditions import ConfigChange, ModelSwitch
from domain.config import LLMConfig
from domain.decision.candidates import derive
from domain.decision.constraints import candidate_entry
from domain.decision.problem import DecisionProblem
from domain.policy import CandidateModel


def changed(problem: DecisionProblem, action: ConfigChange | ModelSwitch) -> LLMConfig:
    """The incumbent of a problem as a rule's action changes it.

    With another model, what belongs to the old one alone is dropped and settings are brought within what the
    new one takes, as for the optimizer's own candidates. What the rule sets itself stands as it is.

    Raises:
        pydantic.ValidationError: the action sets what no configuration can have.
    """
    if isinstance(action, ModelSwitch):
        return _with_model(problem, action.provider, action.model)
    now = problem.incumbent
    provider = action.set.get("provider", now.provider)
    model = action.set.get("model", now.model)
    base = now
    if (provider, model) != (now.provider, now.model):
        base = _with_model(problem, provider, model)
    return LLMConfig.model_validate({**base.to_json(), **action.set})


def _with_model(problem: DecisionProblem, provider: str, model: str) -> LLMConfig:
    now = problem.incumbent
    named = now.model_copy(update={"provider": provider, "model": model})
    entry = candidate_entry(problem.search_space, named) or CandidateModel(provider=provider, model=model)
    return derive(problem, entry, temperature=now.temperature, top_p=now.top_p, max_tokens=now.max_tokens)
