"""What was recorded and decided, for dashboards and people."""
