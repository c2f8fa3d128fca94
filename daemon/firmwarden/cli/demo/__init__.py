"""``demo``: the real daemon among simulated devices that misbehave, and every outcome is checked."""
