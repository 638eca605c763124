"""The command: what it says before any traffic flows, and the report as it is printed."""

import json
from pathlib import Path

import pytest
import typer
from llm_auto_optimizer import Deployment, OptimizationStatus
from rich.console import Console
from typer.testing import CliRunner

from cli.replay import replay
from cli.replaying.display import headline, print_report
from cli.replaying.progress import Progress
from cli.replaying.report import ReplayReport, build_report
from cli.replaying.synthetic import synthetic_options
from cli.replaying.tally import Tally
from cli.replaying.traces import Arrival, Outcome
from cli.replaying.traffic import Served, Traffic

app = typer.Typer()
app.command()(replay)

DEPLOYMENT: Deployment = {
    "deploymentId": "dep-1",
    "scope": "replay",
    "strategy": "canary",
    "fromVersion": "replay@1",
    "toVersion": "replay@2",
    "status": "rolled_back",
    "progress": 25,
    "trafficPercent": 0,
    "startedAt": 1,
    "reason": "cheaper",
    "steps": [
        {
            "percent": 5,
            "startedAt": 1,
            "extensions": 1,
            "verdict": "unhealthy",
            "guardrails": [
                {
                    "metric": "quality.avg",
                    "control": 86.1,
                    "canary": 63.8,
                    "difference": -22.3,
                    "low": -25.0,
                    "high": -19.5,
                    "evidence": 31.0,
                    "samples": {"control": 1571, "canary": 83},
                }
            ],
        },
        {"percent": 25, "extensions": 0, "guardrails": []},
    ],
    "rollback": {"reason": "quality.avg fell below 75", "automatic": True, "triggers": []},
}
OPTIMIZATION: OptimizationStatus = {
    "id": "opt-1",
    "status": "completed",
    "progress": 100,
    "currentPhase": "act",
    "result": {
        "decision": "optimize",
        "reasoning": "small costs less",
        "plans": [],
        "deployments": [],
        "changesApplied": True,
        "durationMs": 5,
    },
}


def arguments(tmp_path: Path) -> list[str]:
    options = synthetic_options(tmp_path)
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(options.policy))
    return [
        *("--arrivals", str(options.arrivals), "--outcomes", str(options.outcomes), "--policy", str(policy)),
        *("--model", "large=openai/gpt-4o", "--model", "small=openai/gpt-4o-mini"),
        *("--endpoint", "http://127.0.0.1:1"),
    ]


def test_help_describes_both_files() -> None:
    text = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout.split())
    for part in (
        "TIMESTAMP",
        "ContextTokens",
        "GeneratedTokens",
        "promptTokens",
        "<NAME>Tokens",
        "<NAME>Correct",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--model", "tiny=openai/gpt-4.1-nano"], "no column tinyTokens, tinyCorrect"),
        (["--latency", "tiny=1:2"], "'tiny' is the NAME of no --model"),
        (["--speed", "1000"], "at most 300"),
        (["--arrivals", "none.csv"], "none.csv: No such file"),
        (["--endpoint", "nowhere"], "endpoint must be an http or https address"),
    ],
)
def test_what_cannot_be_replayed_is_said(change: list[str], said: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*arguments(tmp_path), *change])
    assert (result.exit_code, result.stdout) == (1, "")
    assert said in " ".join(result.stderr.split())


def report_of(tmp_path: Path, deployment: Deployment | None = DEPLOYMENT) -> ReplayReport:
    options = synthetic_options(tmp_path, temporal_ui="http://localhost:8233/")
    traffic = Traffic([Arrival(0, 1, 1), Arrival(1, 1, 1)], [Outcome(1, (1, 1), (True, True))], seed=1)
    traffic.until(5)
    tally = Tally()
    tally.add("before", None, "replay@1", "openai/gpt-4o", Served(1, 1, 100, 100), 0.02)
    tally.add("rollout", "control", "replay@1", "openai/gpt-4o", Served(1, 1, 100, 100), 0.02)
    tally.add("rollout", "canary", "replay@2", "openai/gpt-4o-mini", Served(1, 1, 90, 0), 0.005)
    return build_report(options, traffic, tally, OPTIMIZATION, deployment, ended=True)


COMPLETED: Deployment = {**DEPLOYMENT, "status": "completed"}


def test_the_report_as_json(tmp_path: Path) -> None:
    report = json.loads(json.dumps(report_of(tmp_path, COMPLETED).to_json()))
    assert report["decision"] == "optimize"
    assert (report["fromVersion"], report["toVersion"], report["status"]) == (
        "replay@1",
        "replay@2",
        "completed",
    )
    assert report["steps"] == DEPLOYMENT["steps"]
    assert (report["before"]["cost"], report["after"]) == (0.02, None)
    assert report["canaryRequests"] == 1
    assert report["saving"] == {
        "controlUsdPerRequest": 0.02,
        "canaryUsdPerRequest": 0.005,
        "fraction": 0.75,
        "usdPerMonth": pytest.approx(0.015 * 1 * 30 * 86_400),
    }
    assert any("synthetic" in note for note in report["modelled"])
    assert any("Latency is modelled" in note for note in report["modelled"])
    assert any("3 times over" in note for note in report["modelled"])
    assert report["links"]["temporalUi"].endswith("/namespaces/default/workflows/rollout%2Fdep-1")


def test_a_skip_keeps_the_version(tmp_path: Path) -> None:
    skipped: OptimizationStatus = {
        **OPTIMIZATION,
        "result": {**OPTIMIZATION["result"], "decision": "skip", "reasoning": "nothing is better"},
    }
    report = report_of(tmp_path, None)
    assert report.status == "not_deployed"
    tally = Tally()
    traffic = Traffic([Arrival(0, 1, 1), Arrival(1, 1, 1)], [Outcome(1, (1, 1), (True, True))], seed=1)
    tally.add("before", None, "replay@1", "openai/gpt-4o", Served(1, 1, 100, 100), 0.02)
    report = build_report(synthetic_options(tmp_path), traffic, tally, skipped, None, ended=True)
    assert (report.status, report.from_version, report.to_version) == ("skipped", "replay@1", "replay@1")
    assert report.saving is None


def test_the_report_for_people(tmp_path: Path) -> None:
    console = Console(width=160, record=True, file=(tmp_path / "out").open("w"))
    with console.file:
        print_report(report_of(tmp_path), console)
    text = console.export_text()
    for part in (
        "optimize: small costs less",
        "rolled_back, replay@1 -> replay@2: quality.avg fell below 75",
        "served 1 of 3 requests",
        "5 % +1",
        "unhealthy",
        "-25 .. -19.5",
        "1,571 / 83",
        "http://localhost:8233/namespaces/default/workflows/rollout%2Fdep-1",
    ):
        assert part in text, part
    assert "25 %  " not in text


def test_a_saving_is_only_what_was_kept(tmp_path: Path) -> None:
    assert report_of(tmp_path).saving is None
    console = Console(width=160, record=True, file=(tmp_path / "out").open("w"))
    with console.file:
        print_report(report_of(tmp_path, COMPLETED), console)
    assert "75.0% of the cost" in console.export_text()


def test_a_line_of_progress() -> None:
    progress = Progress("rolling out", Tally(), OPTIMIZATION, DEPLOYMENT)
    assert headline(progress) == (
        "rolling out · 0 requests sent · replay@1 -> replay@2 rolled_back at 0 % · 5 %: unhealthy"
    )
