"""`llm-optimizer backtest` on days that were recorded by the code that records them."""

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner, Result

from activities import checks, problems
from cli.backtesting.run import Options, load, problem_at
from cli.main import app
from domain.policy import ServicePolicy
from infra.embedded import EmbeddedStack
from storage import services
from storage.database import Database
from tests.storage.calls import roll_up
from tests.storage.past import HOUR_MS, canary, had, now, open_days, pass_hours, take_back
from tests.storage.records import change, complete, config, first_config, get_rollout, make

OLD, NEW = "gpt-4o", "gpt-4o-mini"
POLICY: dict[str, Any] = {
    "objectives": [
        {"metric": "cost", "goal": "minimize", "weight": 0.7},
        {"metric": "quality", "goal": "maximize", "weight": 0.3},
    ],
    "constraints": [{"id": "floor", "type": "hard", "metric": "quality", "min": 60}],
    "searchSpace": {
        "models": [
            {"provider": "openai", "model": OLD, "score": 80, "pricePerMTokIn": 20, "pricePerMTokOut": 60},
            {"provider": "openai", "model": NEW, "score": 79, "pricePerMTokIn": 2, "pricePerMTokOut": 6},
        ]
    },
    "rollout": {"steps": [50, 100]},
}


@pytest_asyncio.fixture(autouse=True)
async def service(database: Database, stack: EmbeddedStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known service and a day of its first configuration's traffic; looks see what was just reported."""
    monkeypatch.setattr(checks, "ARRIVAL_MARGIN_MS", 0)
    monkeypatch.setenv("DATABASE_URL", stack.database_url)
    monkeypatch.setenv("COLUMNS", "200")
    await open_days(database)
    async with database.transaction() as session:
        await services.note(session, ["chat"])


async def first_day(database: Database) -> None:
    """`chat@1` was made 12 hours ago, and served since."""
    await first_config(database, "chat", OLD)
    await pass_hours(database, 12)
    await had(database, range(1, 12), "chat@1", quality=80.0)


def policy_file(folder: Path, policy: object = None) -> Path:
    file = folder / "policy.json"
    file.write_text(json.dumps(POLICY if policy is None else policy))
    return file


async def run(file: Path, *arguments: str, service: str = "chat") -> Result:
    command = ["backtest", "--service", service, "--policy", str(file), *arguments]
    return await asyncio.to_thread(CliRunner().invoke, app, command)


async def replayed(
    file: Path, *arguments: str
) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """The heading, the lines and the summary."""
    ended = await run(file, "-o", "json", *arguments)
    assert ended.exit_code == 0, ended.output
    heading, *lines, summary = map(json.loads, ended.stdout.splitlines())
    assert [heading["type"], summary["type"]] == ["backtest", "summary"]
    return heading, lines, summary


def proposals(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["type"] == "proposal"]


async def test_a_rollout_that_completed_shows_what_the_proposal_was_worth(
    database: Database, tmp_path: Path
) -> None:
    await first_day(database)
    rollout = await canary(database, NEW, cost_usd=0.001)
    await complete(database, rollout)
    await pass_hours(database, 6)
    await had(database, range(1, 6), "chat@2", model=NEW, cost_usd=0.001, quality=80.0)
    await roll_up(database)
    heading, lines, summary = await replayed(policy_file(tmp_path))
    assert heading["everySeconds"] == 3600
    (proposal,) = proposals(lines)
    assert proposal["incumbentVersion"] == "chat@1"
    assert proposal["config"]["model"] == NEW
    assert proposal["times"] >= 8
    ended = (await get_rollout(database, rollout)).ended_at
    assert ended is not None
    assert proposal["until"] < ended
    outcome = proposal["outcome"]
    assert (outcome["verdict"], outcome["evidence"], outcome["status"]) == ("better", "canary", "completed")
    assert outcome["deploymentId"] == rollout
    cost = next(found for found in outcome["metrics"] if found["metric"] == "cost.avg")
    assert cost["incumbent"] == pytest.approx(0.01, rel=0.01)
    assert cost["proposed"] == pytest.approx(0.001, rel=0.01)
    assert cost["change"] == pytest.approx(0.9, rel=0.01)
    assert cost["interval"] == "held"
    assert outcome["constraints"] == [
        {"constraint": "floor", "metric": "quality.avg", "value": 80.0, "standing": "kept"}
    ]
    assert summary["decisions"] == summary["proposing"] + summary["skipping"]
    assert summary["proposing"] == proposal["times"]
    assert summary["outcomes"] == {"better": 1}
    assert summary["calibration"]["judged"] == 1
    assert summary["calibration"]["brier"] == pytest.approx((1 - proposal["confidence"]) ** 2)
    assert sum(skip["times"] for skip in summary["skips"]) == summary["skipping"]
    # Once it is served nothing better is known.
    assert lines[-1]["type"] == "skip"
    assert lines[-1]["until"] > ended


async def test_a_rollout_that_was_taken_back_counts_as_such_and_is_not_proposed_again(
    database: Database, tmp_path: Path
) -> None:
    await first_day(database)
    rollout = await canary(database, NEW, cost_usd=0.001, status_code=500)
    await take_back(database, rollout)
    await pass_hours(database, 6)
    await had(database, range(1, 6), "chat@1", quality=80.0)
    await roll_up(database)
    _, lines, summary = await replayed(policy_file(tmp_path))
    (proposal,) = proposals(lines)
    outcome = proposal["outcome"]
    assert (outcome["verdict"], outcome["evidence"], outcome["status"]) == (
        "rolled_back",
        "canary",
        "rolled_back",
    )
    assert outcome["words"].endswith("was taken back: it harms.")
    ended = (await get_rollout(database, rollout)).ended_at
    assert ended is not None
    assert proposal["until"] < ended < lines[-1]["until"]
    assert summary["outcomes"] == {"rolled_back": 1}
    assert summary["calibration"]["brier"] == pytest.approx(proposal["confidence"] ** 2)


async def test_what_was_never_served_is_unknown(database: Database, tmp_path: Path) -> None:
    await first_day(database)
    await roll_up(database)
    _, lines, summary = await replayed(policy_file(tmp_path))
    (proposal,) = proposals(lines)
    assert proposal["outcome"] == {
        "verdict": "unknown",
        "evidence": "none",
        "words": "unknown: what was proposed has not been served since",
        "requests": 0,
        "metrics": [],
        "constraints": [],
        "notMeasured": [],
    }
    assert summary["outcomes"] == {"unknown": 1}
    assert summary["calibration"] == {"intervals": 0, "held": 0, "judged": 0}
    shown = await run(policy_file(tmp_path))
    assert shown.exit_code == 0
    assert "openai/gpt-4o-mini" in shown.stdout
    assert "Outcomes 1 unknown" in shown.stdout
    assert "\x1b" not in shown.stdout


@pytest.mark.parametrize("names_its_version", [True, False])
async def test_without_a_rollout_beside_it_figures_are_before_and_after(
    database: Database, tmp_path: Path, names_its_version: bool
) -> None:
    await first_day(database)
    await make(database, change("chat", NEW, "immediate"))
    row = await _only_rollout(database)
    await complete(database, row)
    await pass_hours(database, 6)
    version = "chat@2" if names_its_version else None
    await had(database, range(1, 5), version, model=NEW, cost_usd=0.02, quality=30.0)
    await roll_up(database)
    _, lines, summary = await replayed(policy_file(tmp_path))
    proposal = proposals(lines)[0]
    outcome = proposal["outcome"]
    assert (outcome["verdict"], outcome["evidence"]) == ("worse", "before-and-after")
    assert outcome["requests"] == 160
    assert "whatever else changed since" in outcome["words"]
    # Scores that name no version are nobody's.
    assert outcome["constraints"][0]["standing"] == ("breached" if names_its_version else "unknown")
    cost = next(found for found in outcome["metrics"] if found["metric"] == "cost.avg")
    assert cost["change"] == pytest.approx(-1.0, rel=0.02)
    assert cost["interval"] == "missed"
    assert summary["breaches"] == names_its_version


async def _only_rollout(database: Database) -> str:
    pool = await database.pool()
    return str(await pool.fetchval("SELECT id FROM rollouts"))


async def test_the_problem_of_now_is_that_of_a_run(database: Database) -> None:
    await first_day(database)
    rollout = await canary(database, NEW, cost_usd=0.001, status_code=500)
    await take_back(database, rollout)
    await pass_hours(database, 2.5)
    await had(database, [1.5, 1, 0.5], "chat@1", quality=90.0)
    await had(database, [1, 0.5], None, n=7)
    await had(database, [1], "nobody's", n=5, model="unheard-of")
    await roll_up(database)
    await had(database, [0.1], "chat@1", n=3)
    budget = {"type": "soft", "metric": "cost.total", "max": 1, "windowMs": 2 * HOUR_MS}
    policy = ServicePolicy.model_validate({**POLICY, "service": "chat", "constraints": [budget]})
    observed = await problems.observe(database, "chat", policy)
    assert observed is not None
    async with database.transaction() as session:
        expected = await problems.problem_of(session, "chat", observed, policy)
    replay = await load(database, Options(policy, every=60))
    found, version = problem_at(replay, policy, observed.observed_at)
    assert found is not None
    assert version == observed.incumbent_version == "chat@1"
    assert len(expected.rejections) == 1
    assert len(expected.traffic) == 2
    assert _rounded(found.to_json()) == _rounded(expected.to_json())


def _rounded(value: Any) -> Any:
    """Numbers to ten digits: sums are made in another order."""
    if isinstance(value, float):
        return float(f"{value:.10g}")
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return [_rounded(each) for each in value] if isinstance(value, list) else value


async def test_nothing_is_written_and_nothing_could_be(database: Database, tmp_path: Path) -> None:
    await first_day(database)
    pool = await database.pool()
    written = """
        SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_xact_user_tables ORDER BY relname
    """
    assert await pool.fetch(written)
    tables = await pool.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    before = {name: await pool.fetchval(f'SELECT count(*) FROM "{name}"') for (name,) in tables}
    await replayed(policy_file(tmp_path))
    assert {name: await pool.fetchval(f'SELECT count(*) FROM "{name}"') for (name,) in tables} == before
    with pytest.raises(Exception, match="read-only transaction"):
        async with database.snapshot() as session:
            await services.note(session, ["search"])


def ruled(action: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A policy with a rule that holds whenever anything is served."""
    condition = {"metric": "requests.count", "op": ">", "value": 0, "window": "1h"}
    return {**POLICY, "rules": [{"id": "r", "condition": condition, "action": action, **fields}]}


async def test_a_rule_decides_as_it_would_have(database: Database, tmp_path: Path) -> None:
    await first_day(database)
    policy = ruled({"type": "config_change", "set": {"maxTokens": 333}}, priority=1, cooldownMs=0)
    heading, lines, _ = await replayed(policy_file(tmp_path, policy))
    (proposal, *others) = proposals(lines)
    assert not others
    assert proposal["config"]["maxTokens"] == 333
    assert proposal["times"] >= 10
    assert "Rule r: requests.count" in proposal["rationale"]
    assert any("rules (1) are asked at each decision" in note for note in heading["notes"])


async def test_a_rule_s_cooldown_and_cap_hold_in_the_replay(database: Database, tmp_path: Path) -> None:
    await first_day(database)
    policy = ruled(
        {"type": "config_change", "set": {"maxTokens": 333}}, priority=1, maxPerDay=2, cooldownMs=0
    )
    _, lines, _ = await replayed(policy_file(tmp_path, policy))
    assert sum(p["times"] for p in proposals(lines) if p["config"]["maxTokens"] == 333) == 2


async def test_a_rule_that_goes_back_names_the_version(database: Database, tmp_path: Path) -> None:
    await first_day(database)
    await make(database, change("chat", NEW, "immediate"))
    await complete(database, await _only_rollout(database))
    await pass_hours(database, 3)
    await had(database, range(1, 3), "chat@2", model=NEW, quality=80.0)
    policy = ruled({"type": "rollback", "toVersion": "chat@1"}, cooldownMs=0)
    _, lines, _ = await replayed(policy_file(tmp_path, policy))
    back = proposals(lines)[-1]
    assert (back["incumbentVersion"], back["config"]["model"]) == ("chat@2", OLD)
    assert back["rationale"].startswith("Rule r, back to chat@1: requests.count")


async def test_rules_that_cannot_be_replayed_are_said_to_be_left_out(
    database: Database, tmp_path: Path
) -> None:
    await first_day(database)
    condition = {"metric": "errors", "op": ">", "value": 0.5, "window": "5m"}
    given = ruled({"type": "experiment"}) | {"triggers": [{"condition": condition, "cooldownMs": 1}]}
    heading, *_ = await replayed(policy_file(tmp_path, given), "--every", "90")
    assert any("rules (1) are left out" in note for note in heading["notes"])
    assert any("triggers (1) start nothing" in note for note in heading["notes"])


async def test_a_part_of_the_time_at_another_pace(database: Database, tmp_path: Path) -> None:
    await first_day(database)
    moment = await now(database)
    since, until = moment - 5 * HOUR_MS, moment - 2 * HOUR_MS
    heading, lines, summary = await replayed(
        policy_file(tmp_path), "--since", str(since), "--until", str(until), "--every", "600"
    )
    assert since <= heading["since"] < since + 600_000
    assert until - 600_000 < heading["until"] <= until
    assert heading["since"] % 600_000 == heading["until"] % 600_000 == 0
    assert summary["decisions"] == 18
    assert sum(line["times"] for line in lines) == 18


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({"objectives": [{"metric": "speed", "goal": "minimize", "weight": 1}]}, "objectives.0.metric: "),
        ({"objektives": []}, "objektives: "),
        ({"service": "mail"}, "service: is 'mail', not 'chat'"),
        ({"rollout": {"stepSeconds": "long"}}, "rollout.stepSeconds: "),
        ({"rollout": 5}, "rollout: "),
        ([], "not an object"),
    ],
)
async def test_a_bad_policy_is_named(policy: object, named: str, tmp_path: Path) -> None:
    ended = await run(policy_file(tmp_path, policy))
    assert ended.exit_code == 2
    assert "policy.json" in ended.stderr
    assert named in ended.stderr


async def test_a_file_that_is_no_policy(tmp_path: Path) -> None:
    (file := tmp_path / "policy.yaml").write_text("a: [")
    for path, named in ((file, "neither JSON nor YAML"), (tmp_path / "none", "cannot be read")):
        ended = await run(path)
        assert ended.exit_code == 2
        assert named in ended.stderr


async def test_yaml_will_do_and_what_it_leaves_out_is_at_its_default(
    database: Database, tmp_path: Path
) -> None:
    await first_day(database)
    stored = ServicePolicy.model_validate({**POLICY, "service": "chat"})
    async with database.transaction() as session:
        await services.put_policy(session, stored)
    (file := tmp_path / "policy.yaml").write_text("service: chat\nschedule: {everySeconds: 7200}\n")
    heading, lines, _ = await replayed(file)
    assert heading["everySeconds"] == 7200
    assert all(
        "the search space holds the present configuration alone" in line["reasoning"] for line in lines[1:]
    )


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--every", "1"], 2, "more than 2,500"),
        (["--since", "yesterday"], 2, "--since"),
        (["--until", "2020-13-01"], 2, "--until"),
        (["--since", "2100-01-01"], 2, "in the future"),
        (["--every", "0"], 2, "--every"),
        (["-o", "xml"], 2, "--output"),
        (["--until", "2024-01-01T00:00:00+02:00"], 1, "no request of chat is on record"),
    ],
)
async def test_bad_options(
    database: Database, tmp_path: Path, arguments: list[str], code: int, named: str
) -> None:
    await first_config(database, "chat", OLD)
    await had(database, [3, 1], "chat@1", n=1)
    ended = await run(policy_file(tmp_path), *arguments)
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert named in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_what_is_not_there_is_said(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = policy_file(tmp_path)
    nothing = await run(file)
    assert (nothing.exit_code, "no request of chat is on record" in nothing.stderr) == (1, True)
    unknown = await run(file, service="nobody")
    assert (unknown.exit_code, "unknown service 'nobody'" in unknown.stderr) == (1, True)
    misspelt = await run(file, service="a b")
    assert (misspelt.exit_code, "--service" in misspelt.stderr) == (2, True)
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x")
    away = await run(file)
    assert (away.exit_code, "cannot be reached" in away.stderr) == (1, True)
    monkeypatch.delenv("DATABASE_URL")
    unset = await run(file)
    assert (unset.exit_code, "DATABASE_URL must be set" in unset.stderr) == (2, True)


async def test_reports_without_a_configuration_are_no_reason_to_fail(
    database: Database, tmp_path: Path
) -> None:
    await had(database, [3, 2, 1], None)
    _, lines, summary = await replayed(policy_file(tmp_path))
    (line,) = lines
    assert line["reasoning"] == "No configuration is known to have been served."
    assert summary["skipping"] == line["times"] >= 2
    assert config(OLD).model == OLD
