"""How faults are written: ``KIND[@POINT=VALUE][,KEY=VALUE...]``.

The text is taken apart strictly here; what kinds and points there are is the business of each family of devices.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_Choice = TypeVar("_Choice")


class BadFault(ValueError):
    """The text of a fault cannot be understood; the message says what was expected."""


class FaultText:
    """Takes one fault apart, and complains with its text.

    Attributes:
        text: all of it.
        kind: what comes first.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        head, *pairs = text.split(",")
        self.kind, self._at, self._place = head.partition("@")
        self._keys: dict[str, str] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not equals or key in self._keys:
                raise self.error(f"{pair!r} is not KEY=VALUE, or {key!r} is given twice")
            self._keys[key] = value

    def error(self, message: str) -> BadFault:
        """Return a complaint."""
        return BadFault(f"fault {self.text!r}: {message}")

    def choice_of(self, kinds: Mapping[str, _Choice]) -> _Choice:
        """Read the kind."""
        if self.kind not in kinds:
            raise self.error(f"there is no {self.kind!r}, there are {', '.join(kinds)}")
        return kinds[self.kind]

    def point(self, points: Iterable[str]) -> tuple[str, str] | None:
        """Read the point, one of these, and the text behind it; None if there is no point."""
        if not self._at:
            return None
        known = list(points)
        name, equals, text = self._place.partition("=")
        if not equals or name not in known:
            raise self.error(f"expected @POINT=VALUE with POINT one of {', '.join(known)}")
        return name, text

    def times(self, default: str) -> int | None:
        """Read how often it strikes; None for always."""
        times = self._keys.pop("times", default)
        return None if times == "always" else int(self.number(times, "times", lowest=1, whole=True))

    def seconds(self, key: str) -> float | None:
        """Read a time; None where the key is missing."""
        return self.number(self._keys.pop(key), key) if key in self._keys else None

    def count(self, key: str, default: str, *, lowest: int = 0, highest: float = math.inf) -> int:
        """Read a whole number."""
        text = self._keys.pop(key, default)
        return int(self.number(text, key, lowest=lowest, highest=highest, whole=True))

    def choice(self, key: str, choices: Mapping[str, _Choice], default: str) -> _Choice:
        """Read one of several words."""
        return self.one_of(self._keys.pop(key, default), key, choices)

    def word(self, key: str, default: str) -> str:
        """Read what the owner understands."""
        return self._keys.pop(key, default)

    def finish(self) -> None:
        """Complain of what nobody asked for."""
        if self._keys:
            raise self.error(f"{self.kind} has no key {', '.join(self._keys)}")

    def number(
        self, text: str, key: str, *, lowest: float = 0, highest: float = math.inf, whole: bool = False
    ) -> float:
        """Understand a number."""
        try:
            number = int(text) if whole else float(text)
        except ValueError:
            number = math.nan
        if not lowest <= number <= highest or number == math.inf:
            wanted = "a whole number" if whole else "a number"
            limit = f" from {lowest}" + (f" to {highest}" if highest < math.inf else "")
            raise self.error(f"{key} must be {wanted}{limit}, got {text!r}")
        return number

    def one_of(self, text: str, key: str, choices: Mapping[str, _Choice]) -> _Choice:
        """Understand one of several words."""
        if text not in choices:
            raise self.error(f"{key} must be one of {', '.join(choices)}, got {text!r}")
        return choices[text]
