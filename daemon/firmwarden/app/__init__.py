"""The composition root: configuration to objects, one task group, signals, and the order of stopping."""
