"""The specification's own code, taken from its text, so that nothing of it is retyped."""

import re
from pathlib import Path

TEXT = (Path(__file__).parent / "interfaces.md").read_text(encoding="utf-8")


def section(begin: str, end: str) -> str:
    """The text from one heading up to another."""
    return TEXT.split(f"\n{begin}", 1)[1].split(f"\n{end}", 1)[0]


def blocks(language: str, text: str = TEXT) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
