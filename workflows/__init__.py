"""Deterministic Temporal workflows, the messages they take and give, and how they are started.

Nothing here does I/O: activities are called by name, through `workflows.calls`.
"""
