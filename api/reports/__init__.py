"""Reports of calls and of their quality."""
