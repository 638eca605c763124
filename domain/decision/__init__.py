"""Deciding: from what was observed to a plan for a better configuration, or a reasoned skip.

`decide.decide` is the door: it refuses contradictory constraints, waits out a cooldown, asks a `Strategy`
and validates what it proposes. `constraints.validate_config` judges any configuration, a person's too.
"""
