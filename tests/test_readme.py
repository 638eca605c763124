"""What the README tells people to run is there, and CI runs no more than that."""

import ast
import json
import re
from pathlib import Path

from cli.main import COMMANDS
from domain.config import LLMConfig
from domain.policy import ServicePolicy

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_every_make_target_exists() -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)$", "\n".join(blocks("console")), re.MULTILINE))
    assert {"demo", "test", "install"} <= named
    for target in named:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target


def test_every_command_exists() -> None:
    named = set(re.findall(r"bin/llm-optimizer ([a-z]+)", README))
    assert {"dev", "serve", "worker", "sidecar", "db", "judge", "replay"} <= named
    assert named <= set(COMMANDS)


def test_the_bodies_of_its_requests_are_valid() -> None:
    bodies = [json.loads(body) for body in re.findall(r"-d '(\{.*?\})'", README, re.DOTALL)]
    update, policy = bodies
    assert LLMConfig.model_validate(update["config"]).model == "gpt-4o"
    assert ServicePolicy.model_validate({"service": "chat-service", **policy}).schedule.enabled


def test_its_python_parses() -> None:
    snippets = blocks("python")
    assert snippets
    for snippet in snippets:
        ast.parse(snippet)


def test_ci_runs_what_a_user_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = [line for line in script.splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["make test"]


def test_no_picture_is_missing() -> None:
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture
