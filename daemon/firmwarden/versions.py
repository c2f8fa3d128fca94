"""Which of two versions is newer.

A version that follows Semantic Versioning 2.0.0 is compared by its section 11; any other text needs an integer
``sequence`` beside it.  Where both sides have a sequence, that alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from semver import Version


@dataclass(frozen=True, slots=True)
class VersionTag:
    """What is known of a version for ordering it."""

    version: str
    sequence: int | None = None


def compare(one: VersionTag, other: VersionTag) -> Literal[-1, 0, 1] | None:
    """Tell whether ``one`` is older (-1), of equal rank (0) or newer (1) than ``other``; None where nobody can tell.

    Among tags that all have a sequence, or all have none and are SemVer, this is a total order.  In a mixed crowd
    it is not: whoever sorts must not mix.
    """
    if one.sequence is not None and other.sequence is not None:
        return _sign(one.sequence - other.sequence)
    if one.version == other.version:
        return 0
    ours, theirs = _semantic(one.version), _semantic(other.version)
    if ours is None or theirs is None:
        return None
    return _sign(ours.compare(theirs))


def is_semantic(version: str) -> bool:
    """Tell whether a version can be ordered without a sequence."""
    return _semantic(version) is not None


def _semantic(version: str) -> Version | None:
    try:
        return Version.parse(version)
    except ValueError:  # also for a number that is too long for Python to read
        return None


def _sign(difference: int) -> Literal[-1, 0, 1]:
    return -1 if difference < 0 else 1 if difference else 0
