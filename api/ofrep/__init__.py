"""OFREP 0.3.0: configurations as feature flags, for every OpenFeature SDK."""
