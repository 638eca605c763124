"""`llm-optimizer suggest`: the workflow's own decisions, one a line, and clear errors."""

import json
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from cli.suggest import suggest as command
from domain.decision.decide import decide
from domain.decision.strategy import StructuredPriorStrategy
from domain.plan import OptimizationPlan
from tests.domain.decision.scenarios import GPT4, MIXTRAL, NOW, floor, observation, problem
from tests.domain.decision.scenarios import config as whole

app = typer.Typer()
app.command()(command)

TOKENS = {"input": 1100, "outputQuantiles": [4 * i for i in range(101)]}


def _config(names: tuple[str, str], **given: Any) -> dict[str, Any]:
    return {"provider": names[0], "model": names[1], **given}


def _seen(config: dict[str, Any], *, n: int = 3000, **given: Any) -> dict[str, Any]:
    metrics = {
        "cost.avg": {"mean": 0.017, "se": 0.0002},
        "latency.p95": {"mean": 9000, "se": 150},
        "quality.avg": {"mean": 86, "se": 0.7},
        "errors.rate": {"mean": 0.004, "se": 0.001},
    }
    given["metrics"] = metrics | given.get("metrics", {})
    return {"config": config, "n": n, "tokens": TOKENS} | given


PRESENT = _seen(_config(GPT4, temperature=0.7, topP=1, maxTokens=1024), incumbent=True)
CHEAP = _seen(
    _config(MIXTRAL, temperature=0.7, topP=1, maxTokens=1024),
    n=300,
    metrics={
        "cost.avg": {"mean": 0.0009, "se": 0.00002},
        "quality.avg": {"mean": 80, "se": 1.5},
        "latency.p95": {"mean": 4000, "se": 200},
    },
)


def _question(**fields: Any) -> dict[str, Any]:
    return {
        "objectives": [
            {"metric": "cost.avg", "goal": "minimize", "weight": 0.5},
            {"metric": "latency.p95", "goal": "minimize", "weight": 0.2},
            {"metric": "quality.avg", "goal": "maximize", "weight": 0.3},
        ],
        "constraints": [{"id": "floor", "type": "hard", "metric": "quality.avg", "min": 55}],
        "searchSpace": {"models": [_config(GPT4), _config(MIXTRAL)]},
        "history": [PRESENT],
        "now": NOW,
        **fields,
    }


def _run(*questions: Any) -> Result:
    lines = (each if isinstance(each, str) else json.dumps(each) for each in questions)
    return CliRunner().invoke(app, [], input="".join(f"{line}\n" for line in lines))


def _one(question: Any) -> dict[str, Any]:
    result = _run(question)
    assert result.exit_code == 0, result.stdout
    (line,) = result.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_answer_is_the_workflows() -> None:
    answered = OptimizationPlan.model_validate(_one(_question(service="chat")))
    asked = problem(
        constraints=[floor(55)], history=[observation(whole()).model_copy(update={"tokens": None})]
    )
    history = [observation(whole())]
    expected = decide(asked.model_copy(update={"history": history}), StructuredPriorStrategy())
    assert answered == expected


def test_a_skip_says_why() -> None:
    dear = [{"type": "hard", "metric": "quality", "min": 85}]
    models = [_config(GPT4, score=86), _config(MIXTRAL, score=60)]
    answered = _one(_question(constraints=dear, searchSpace={"models": models}))
    assert set(answered) == {"decision", "reasoning"}
    assert answered["decision"] == "skip"
    assert "quality.avg >= 85" in answered["reasoning"]


def test_what_is_promoted_was_observed_and_is_good_enough() -> None:
    assert _one(_question(recommend=True)) == {"recommendedConfig": None}
    kept = _one(_question(recommend=True, history=[PRESENT, CHEAP]))["recommendedConfig"]
    assert (kept["model"], kept["maxTokens"], kept["streaming"]) == (MIXTRAL[1], 1024, False)
    back = [{"config": CHEAP["config"], "reason": "quality"}]
    assert _one(_question(recommend=True, history=[PRESENT, CHEAP], rejections=back)) == {
        "recommendedConfig": None
    }


def test_a_plan_looks_past_what_would_be_promoted() -> None:
    ranges = {"models": [_config(GPT4), _config(MIXTRAL)], "maxTokens": {"min": 64, "max": 1024}}
    answered = _one(_question(history=[PRESENT, CHEAP], searchSpace=ranges))
    assert answered.get("recommendedConfig", {}).get("maxTokens") != 1024


def test_partial_configurations_are_as_the_incumbent_and_providers_have_it() -> None:
    bare = {**PRESENT, "config": {"model": GPT4[1]}}
    answered = _one(_question(history=[bare]))["recommendedConfig"]
    assert (answered["temperature"], answered["topP"], answered["maxTokens"]) == (1.0, 1.0, 1024)
    other = {**CHEAP, "config": _config(MIXTRAL)}
    kept = _one(_question(recommend=True, history=[PRESENT, other]))["recommendedConfig"]
    assert (kept["temperature"], kept["maxTokens"]) == (0.7, 1024)


def test_nothing_observed_is_a_skip_and_no_promotion() -> None:
    assert "Nothing has been observed" in _one(_question(history=[]))["reasoning"]
    assert _one(_question(history=[], recommend=True)) == {"recommendedConfig": None}
    thin = {**PRESENT, "n": 1}
    assert "Only 1 requests" in _one(_question(history=[thin]))["reasoning"]


def test_unavailable_models_budgets_and_widening() -> None:
    assert "said to be gone" in _one(_question(unavailable=[MIXTRAL[1]]))["reasoning"]
    day = 86_400_000
    budget = [{"type": "hard", "metric": "cost.total", "max": 1, "windowMs": day}]
    traffic = [{"windowMs": day, "requests": 10_000}]
    assert "cost.total <= 1" in _one(_question(constraints=budget, traffic=traffic))["reasoning"]
    sure = _one(_question())["predictions"]["cost.avg"]
    unsure = _one(_question(widening={"cost": 2}))
    assert unsure["predictions"]["cost.avg"]["high"] > 1.2 * sure["high"]
    assert "cost.avg 2 times" in unsure["rationale"]


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ("{", "EOF"),
        ("[]", "not a JSON object"),
        (_question(history=[CHEAP]), '"incumbent": true'),
        (_question(history=[PRESENT, {**CHEAP, "incumbent": True}]), "different configurations"),
        (_question(history=[{**PRESENT, "config": {"model": "unknown"}}]), "which provider"),
        (_question(history=[{**PRESENT, "n": -1}]), "history.0.n"),
        (_question(history=[{**PRESENT, "ageMs": 1, "observedAt": 1}]), "give one of them"),
        (_question(history=[{**PRESENT, "tokens": {"input": 1, "outputQuantiles": [1]}}]), "outputQuantiles"),
        (
            _question(
                history=[_seen(PRESENT["config"], metrics={"cost.avg": {"mean": float("nan"), "se": 0}})]
            ),
            "finite",
        ),
        (_question(objectives=[]), "objectives"),
        (_question(unknown=1), "unknown"),
        ({"recommend": True}, "history: Field required"),
        (_question(searchSpace={"temperature": {"min": 1, "max": 0}}), "min is above max"),
    ],
)
def test_a_malformed_line_is_named_and_the_next_is_answered(question: Any, named: str) -> None:
    result = _run(question, "", _question())
    error, plan = (json.loads(line) for line in result.stdout.splitlines())
    assert result.exit_code == 1
    assert set(error) == {"error"}
    assert named in error["error"]
    assert plan["source"] == "model"
