"""Health, status, probes and measurements of the server itself."""
