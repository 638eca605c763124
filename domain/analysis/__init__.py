"""What the numbers say before anything is decided."""
