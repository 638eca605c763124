"""The event log, and the same live."""
