"""Services and their policies."""
