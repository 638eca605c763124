"""Rollouts: read, and steered by hand."""
