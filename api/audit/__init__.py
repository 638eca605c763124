"""The audit log: read alone."""
