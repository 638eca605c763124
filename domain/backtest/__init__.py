"""Recorded history replayed through a policy: when it is asked, what it proposes, what came of that."""
