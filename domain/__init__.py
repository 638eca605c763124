"""The product's own ideas, pure: types, statistics, the gate, the decision. No I/O."""
