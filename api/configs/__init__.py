"""Configurations: reads from memory, updates, versions."""
