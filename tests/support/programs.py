"""Programs of the system that judge what is meant for them."""

from __future__ import annotations

import shutil

import pytest


def program(name: str) -> str:
    """Return where a program is; where it is not, the test is skipped, which CI does not accept."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; .ci/run lists the packages of all that tests ask")
    return found
