"""Optimization runs: triggers, status, list."""
