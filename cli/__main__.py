"""`python -m cli`: the same as `llm-optimizer`."""

from cli.main import app

app()
