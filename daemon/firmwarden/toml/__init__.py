"""TOML that people write, read strictly: every fault comes with its line, its key and what was expected.

Configuration and release manifests share this; what their keys mean is theirs.
"""
