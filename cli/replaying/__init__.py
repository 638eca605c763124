"""Drives a server with traffic from files and reports what the optimizer made of it."""

from cli.replaying.errors import ReplayError
from cli.replaying.options import ReplayModel, ReplayOptions
from cli.replaying.report import ReplayReport
from cli.replaying.run import run_replay

__all__ = ["ReplayError", "ReplayModel", "ReplayOptions", "ReplayReport", "run_replay"]
