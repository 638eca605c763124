"""`llm-optimizer judge`: the gate of a rollout, on anybody's own numbers."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from pydantic import Field, ValidationError
from pydantic_core import from_json

from cli.lines import answer_lines, described
from domain.base import Message
from domain.gate import ArmBucket, Bucket, GateSettings, GateState, Judgement, observe
from domain.gate import judge as judge_state
from domain.gate.bucket import LARGEST
from domain.policy import ServicePolicy
from domain.rollout_plan import plan_rollout


class Look(Message):
    """A line of input: a bucket that ended `t` seconds after the start, and where the rollout stands."""

    t: Annotated[float, Field(ge=0, le=LARGEST)]
    share: Annotated[float, Field(ge=0, le=100)]
    step_end: bool = False
    extension: Annotated[int, Field(ge=0)] = 0
    control: ArmBucket
    canary: ArmBucket


class Reset(Message):
    """A line of input: a new rollout starts."""

    reset: Literal[True]


class Session:
    """One rollout after another, judged line by line under one policy."""

    def __init__(self, policy: ServicePolicy) -> None:
        self._settings = GateSettings.from_policy(policy)
        self._plan = plan_rollout(policy.rollout, policy.rollout.strategy, None)
        self._full = 100 - policy.rollout.holdback_percent
        self._state = GateState()

    def answer(self, line: bytes) -> dict[str, Any]:
        """What to print for a line of input.

        Raises:
            ValueError: the line is no look and no reset; nothing has changed.
        """
        given = from_json(line, allow_inf_nan=False)
        if not isinstance(given, dict):
            raise ValueError("not a JSON object")
        if "reset" in given:
            Reset.model_validate(given)
            self._state = GateState()
            return {"reset": True}
        judgement = self._look(Look.model_validate(given))
        return {
            "verdict": judgement.verdict,
            "reason": judgement.reason,
            "evidence": {key: float(f"{value:.4g}") for key, value in judgement.evidence.items()},
        }

    def _look(self, look: Look) -> Judgement:
        bucket = Bucket(id=round(look.t * 1000), share=look.share, control=look.control, canary=look.canary)
        last = self._state.last_bucket
        if last is not None and bucket.id < last:
            raise ValueError(
                f't: {look.t:g} is before {last / 1000:g}; {{"reset": true}} starts a new rollout'
            )
        self._state = observe(self._state, bucket, self._settings)
        return judge_state(
            self._state,
            self._settings,
            step_end=look.step_end,
            before_full=self._is_last_partial(look.share),
            extension=look.extension,
            max_extensions=self._plan.max_extensions,
        )

    def _is_last_partial(self, share: float) -> bool:
        """Whether 100 % comes next: the policy's last share below it, or one above that and not yet full."""
        if self._plan.last_partial_step < 0:
            return False
        last = self._plan.steps[self._plan.last_partial_step].traffic_percent
        return share == last or last < share < self._full


def judge(
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="JSON lines; standard input by default.", metavar="FILE")
    ] = "-",  # type: ignore[assignment]  # typer opens it
    policy: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="A service's policy, JSON or YAML: its guardrails, hard constraints and rollout are used.",
        ),
    ] = None,
) -> None:
    """Judge a canary against its control, one 30-second bucket a line.

    \b
    Reads   {"t": 30, "share": 5, "stepEnd": false, "extension": 0,
             "control": {"n": 571, "errors": 6, "latencyMs": [...], "costUsd": [...], "quality": [...]},
             "canary": {...}}
    answers {"verdict": "continue|unhealthy|healthy|inconclusive", "reason": "...",
             "evidence": {"errors": 1.2, "tail": 0.9, "latency": 1.1, "cost": 0.8, "quality": 1.0}}

    Each line of input gets one line of output, at once. t is the bucket's end in seconds; the same t again
    changes nothing. share is the canary's percent of the traffic. latencyMs are those of successes, quality
    (0..100) is given where scored; any of the three may be left out. stepEnd asks for the verdict of a step
    that was extended `extension` times; at the policy's last share below 100 (50 by default) it asks for the
    proof that full exposure needs. Evidence is an e-value per guardrail: 1 is none, and a weighted average
    of 20 rolls back.

    {"reset": true} starts a new rollout and is answered with itself. A malformed line is answered with
    {"error": "..."}, changes nothing, and makes the exit code 1 at the end. Blank lines are skipped.
    """
    answer_lines(file, Session(_policy(policy)).answer)


def _policy(path: Path | None) -> ServicePolicy:
    if path is None:
        return ServicePolicy(service="judged")
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise ValueError("not an object")
        return ServicePolicy.model_validate({"service": "judged", **given})
    except ValidationError as error:
        raise typer.BadParameter(f"{path}: {described(error)}", param_hint="--policy") from error
    except (ValueError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--policy") from error
