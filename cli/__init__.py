"""The `llm-optimizer` command."""
