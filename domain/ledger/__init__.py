"""The ledger: what was predicted of a change beside what was then measured, and how far to trust the next."""
