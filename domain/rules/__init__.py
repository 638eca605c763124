"""Rules and triggers: whether their conditions hold, when they may fire, and what a change of theirs means.

Pure. What is known of a service is read through `signals.Signals` alone.
"""
