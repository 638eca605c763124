"""Pause, resume and emergency stop of everything."""
