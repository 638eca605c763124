"""The REST API: one folder per noun, over `storage`, with typed starts of `workflows`."""
