"""`llm-optimizer judge`: one answer a line, the gate's own verdicts, and clear errors."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from bench.gate_traffic import BASE, Arm, bucket
from cli.judge import judge as command
from domain.gate import Bucket, GateSettings, GateState, judge, observe

app = typer.Typer()
app.command()(command)

RESET = '{"reset": true}'
ARM = {"n": 10, "errors": 0, "latencyMs": [100.0] * 10, "costUsd": [0.01] * 10, "quality": [90.0] * 10}


def _line(**fields: object) -> str:
    return json.dumps({"t": 30, "share": 5, "control": ARM, "canary": ARM, **fields})


def _bucket_line(each: Bucket, **fields: object) -> str:
    arms = {"control": each.control.to_json(), "canary": each.canary.to_json()}
    return json.dumps({"t": each.id / 1000, "share": each.share, **arms, **fields})


def _run(*lines: str, policy: Path | None = None) -> Result:
    arguments = [] if policy is None else ["--policy", str(policy)]
    return CliRunner().invoke(app, arguments, input="".join(f"{line}\n" for line in lines))


def _answers(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def _traffic(shares: list[float], canary: Arm = BASE) -> list[Bucket]:
    rng = np.random.default_rng(1)
    made = [bucket(number, share, BASE, canary, rng) for number, share in enumerate(shares)]
    return [each.model_copy(update={"id": 30_000 * (each.id + 1)}) for each in made]


def test_answers_are_those_of_the_gate() -> None:
    buckets = _traffic([25.0] * 12, Arm(cost=1.1))
    lines = [_bucket_line(each, stepEnd=number % 4 == 3) for number, each in enumerate(buckets)]
    result = _run(*lines)
    assert result.exit_code == 0
    settings, state = GateSettings(), GateState()
    for number, (each, answer) in enumerate(zip(buckets, _answers(result), strict=True)):
        state = observe(state, each, settings)
        expected = judge(state, settings, step_end=number % 4 == 3)
        assert set(answer) == {"verdict", "reason", "evidence"}
        assert answer["verdict"] == expected.verdict
        assert answer["reason"] == expected.reason
        assert answer["evidence"] == pytest.approx(expected.evidence, rel=1e-3)


def test_a_sick_canary_is_unhealthy_until_reset() -> None:
    lines = [_bucket_line(each) for each in _traffic([25.0] * 8, Arm(errors=20))]
    healthy = [_bucket_line(each) for each in _traffic([25.0] * 2)]
    answers = _answers(_run(*lines, RESET, *healthy))
    assert answers[7]["verdict"] == "unhealthy"
    assert "errors.rate" in answers[7]["reason"]
    assert answers[8] == {"reset": True}
    assert [answer["verdict"] for answer in answers[9:]] == ["continue", "continue"]
    assert answers[9]["evidence"]["errors"] < 3


def test_the_same_bucket_again_changes_nothing() -> None:
    once = _answers(_run(_line(), _line(t=60)))
    again = _answers(_run(_line(), _line(), _line(), _line(t=60)))
    assert again[1] == again[0]
    assert again[-1] == once[-1]


@pytest.mark.parametrize(
    ("share", "verdict"),
    [(5, "healthy"), (25, "healthy"), (50, "inconclusive"), (95, "healthy"), (100, "healthy")],
)
def test_the_last_share_below_full_asks_for_proof(share: int, verdict: str) -> None:
    # Arms of the share's size, since a split against it would decide.
    arms = {"control": _sized(1200 - 12 * share), "canary": _sized(12 * share)}
    lines = [_line(t=30 * number, share=share, stepEnd=number == 6, **arms) for number in range(1, 7)]
    assert _answers(_run(*lines))[-1]["verdict"] == verdict


def _sized(n: int) -> dict[str, object]:
    # An error rate of 2 % leaves critical harm open on either proof.
    return {"n": n, "errors": n // 50, "latencyMs": [100.0] * 20 if n >= 50 else []}


@pytest.mark.parametrize(
    ("steps", "proof_at"),
    [('{"steps": [10, 100]}', 10), ('{"strategy": "gradual"}', 90), ('{"steps": [100]}', None)],
)
def test_the_policys_steps_say_which_share_that_is(tmp_path: Path, steps: str, proof_at: int | None) -> None:
    policy = tmp_path / "policy.json"
    policy.write_text(f'{{"rollout": {steps}}}')
    for share in (5, 10, 50, 90):
        line = _line(share=share, stepEnd=True, control=_sized(1200 - 12 * share), canary=_sized(12 * share))
        last = proof_at is not None and share >= proof_at
        assert _answers(_run(line, policy=policy))[0]["verdict"] == ("inconclusive" if last else "healthy")


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_margins_and_bounds_come_from_the_policy(tmp_path: Path, suffix: str) -> None:
    policy = tmp_path / f"policy.{suffix}"
    policy.write_text(
        '{"guardrails": [{"metric": "cost.avg", "tolerance": 0.5}], '
        '"constraints": [{"type": "hard", "metric": "quality", "min": 55}]}'
        if suffix == "json"
        else "guardrails:\n- {metric: cost, tolerance: 0.5}\n"
        "constraints:\n- {type: hard, metric: quality.avg, min: 55}\n"
    )
    lines = [_bucket_line(each) for each in _traffic([25.0] * 10, Arm(cost=1.4, quality=-15))]
    assert "unhealthy" in [answer["verdict"] for answer in _answers(_run(*lines))]
    assert {answer["verdict"] for answer in _answers(_run(*lines, policy=policy))} == {"continue"}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{", "EOF"),
        ("[]", "not a JSON object"),
        ("\x00", "expected value"),
        (_line(share=101), "share"),
        (_line(share="5"), "share"),
        (_line(stepEnd=1), "stepEnd"),
        (_line(extension=-1), "extension"),
        (_line(t=-1), "t:"),
        (_line(t=None), "t:"),
        (_line(unknown=1), "unknown"),
        (_line(control={**ARM, "errors": 11}), "control"),
        (_line(canary={**ARM, "latencyMs": [1, "2"]}), "canary.latencyMs.1"),
        (_line(canary={**ARM, "quality": [100.5]}), "canary.quality.0"),
        (_line(canary={**ARM, "costUsd": [-0.1]}), "canary.costUsd.0"),
        (_line().replace('"t": 30', '"t": NaN'), "expected value"),
        (_line().replace('"t": 30', '"t": 1e999'), "t: Input should be a finite number"),
        (_line().replace("0.01", "Infinity", 1), "expected value"),
        ('{"share": 5}', "control: Field required"),
        ('{"reset": false}', "reset"),
        ('{"reset": true, "t": 30}', "t: Extra inputs"),
    ],
)
def test_a_malformed_line_is_named_and_changes_nothing(line: str, named: str) -> None:
    result = _run(_line(), line, _line(t=60))
    before, error, after = _answers(result)
    assert result.exit_code == 1
    assert set(error) == {"error"}
    assert named in error["error"]
    assert [before, after] == _answers(_run(_line(), _line(t=60)))


def test_time_does_not_go_back_without_a_reset() -> None:
    result = _run(_line(t=60), _line(t=30))
    assert "30 is before 60" in _answers(result)[1]["error"]
    assert result.exit_code == 1
    assert _run(_line(t=60), RESET, _line(t=30)).exit_code == 0


def test_blank_lines_and_no_lines_are_fine() -> None:
    assert len(_answers(_run("", _line(), "  "))) == 1
    result = _run()
    assert (result.exit_code, result.stdout) == (0, "")


def test_a_file_is_read_like_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "buckets.jsonl"
    file.write_text(f"{_line()}\n{_line(t=60)}")
    result = CliRunner().invoke(app, [str(file)])
    assert result.exit_code == 0
    assert result.stdout == _run(_line(), _line(t=60)).stdout


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "policy"),
        ("[]", "not an object"),
        ('{"guardrail": []}', "guardrail"),
        ('{"guardrails": [{"metric": "tokens.total"}]}', "no guardrail"),
        ('{"guardrails": [{"metric": "cost", "tolerance": .nan}]}', "finite"),
    ],
)
def test_a_wrong_policy_is_a_usage_error(tmp_path: Path, content: str, named: str) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(content)
    result = _run(_line(), policy=policy)
    assert result.exit_code == 2
    assert named in " ".join(result.stderr.replace("│", " ").split())
    assert result.stdout == ""


def test_each_answer_comes_before_the_next_line_is_sent() -> None:
    code = "import typer; from cli.judge import judge; typer.run(judge)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in (_line(), RESET, _line(t=30)):
            process.stdin.write(f"{line}\n")
            # Would wait for ever if the answer stayed in a buffer; the test's time limit ends it.
            assert json.loads(process.stdout.readline())
        process.stdin.close()
        assert process.wait() == 0
