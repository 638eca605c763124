"""What can end a replay before its end."""


class ReplayError(Exception):
    """A replay that cannot go on, in words for the person who started it."""
