"""Endpoints that are sent events, and what became of each."""
