"""Who takes part. One more is one more line of `PARTICIPANTS`, and a program that speaks as lines.py says."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.node.running import NODE, packages
from tests.sdks.golang import build
from tests.sdks.typescript import built_module

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"


@dataclass(frozen=True, slots=True)
class Command:
    """How a program is started; its setup comes as one more argument."""

    arguments: Sequence[str | Path]
    folder: Path = ROOT


@dataclass(frozen=True, slots=True)
class Participant:
    """An application, and what is particular about the way in that it takes.

    `program` makes it, in an empty folder. `keeps_config`: while the server is away it goes on with the
    configuration that it had, and does not fall back to its own. `judges`: it can tell how good an answer
    was. `priced`: it cannot tell what a call cost. `may_drop`: its exporter gives up, and says so. No call of
    its takes longer than `patience`, in seconds.
    """

    name: str
    program: Callable[[Path], Command]
    needs: tuple[str, ...] = ()
    by_sidecar: bool = False
    keeps_config: bool = True
    judges: bool = True
    priced: bool = False
    may_drop: bool = False
    patience: float = 1.0


def _python(name: str) -> Callable[[Path], Command]:
    return lambda _: Command([sys.executable, "-m", f"tests.conformance.programs.{name}"])


def _node(name: str, *arguments: str) -> Command:
    source = "".join((PROGRAMS / file).read_text(encoding="utf-8") for file in ("lines.mjs", f"{name}.mjs"))
    return Command([NODE, "--input-type=module", "--eval", source, *arguments], packages())


def _typescript(_: Path) -> Command:
    return _node("typescript_sdk", built_module().as_uri())


def _go(folder: Path) -> Command:
    return Command([build((PROGRAMS / "go_sdk" / "main.go").read_text(encoding="utf-8"), folder)])


# What asks at every call waits for an answer as long as its client does: five seconds.
PARTICIPANTS = (
    Participant("python-sdk", _python("python_sdk")),
    Participant("typescript-sdk", _typescript, needs=("node", "npm")),
    Participant("go-sdk", _go, needs=("go",)),
    Participant("grpc", _python("plain_grpc"), judges=False, patience=2.0),
    Participant("ofrep-python", _python("ofrep_client"), keeps_config=False, patience=6.0),
    Participant("ofrep-node", lambda _: _node("ofrep_client"), keeps_config=False, patience=6.0),
    Participant(
        "otlp-openai",
        _python("instrumented_openai"),
        keeps_config=False,
        priced=True,
        may_drop=True,
        patience=6.0,
    ),
    Participant("sidecar", _python("python_sdk"), by_sidecar=True),
)
