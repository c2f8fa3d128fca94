"""How single values are read from TOML: each reader knows, and says, what it expects.

A ``Reader`` stands in the ``Annotated`` type of a field.  It is the whole rule for that field, so that the
annotation is what the reference documentation and the error messages are made from.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator

from firmwarden.model import ClassName

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import StrEnum

T = TypeVar("T")

LONGEST_S: Final = 366 * 86_400.0
"""A duration beyond a year is taken for a slip of the pen."""

_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ms|s|min|h|d)", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_NAME_MAX: Final = 64
_SHORT_MAX: Final = 64
_LONGEST_SHOWN: Final = 60
_LARGEST_SHOWN: Final = 64


@dataclass(frozen=True, slots=True)
class Reader(BeforeValidator):
    """Turns a value of TOML into ours; pydantic calls it, and the documentation asks it what it expects."""

    expected: str = ""


def shown(value: object) -> str:
    """Render a value of TOML for a message, cut where it gets long."""
    match value:
        case bool():
            text = "true" if value else "false"
        case int() if value.bit_length() > _LARGEST_SHOWN:
            text = f"a number of {value.bit_length()} bits"  # Python refuses to write out thousands of digits
        case dict():
            text = "a table"
        case list():
            text = "an array"
        case str():
            text = '"' + value.encode("unicode_escape").decode("ascii").replace('"', '\\"') + '"'
        case _:
            text = str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def reader(expected: str, read: Callable[[object], T]) -> Reader:
    """Make a ``Reader`` of a function that raises ``ValueError``, with or without a reason, for what it cannot read."""

    def checked(value: Any) -> T:  # noqa: ANN401 - whatever stands in the file
        try:
            return read(value)
        except ValueError as exc:
            reason = f": {exc}" if str(exc) else ""
            raise ValueError(f"expected {expected}, got {shown(value)}{reason}") from None

    return Reader(checked, expected=expected)


def text_that(expected: str, convert: Callable[[str], T]) -> Reader:
    """Read text that ``convert`` accepts; it raises ``ValueError`` for the rest."""

    def read(value: object) -> T:
        if not isinstance(value, str) or "\0" in value:
            raise ValueError
        return convert(value)

    return reader(expected, read)


def whole(low: int, high: int) -> Reader:
    """Read an integer within both limits."""

    def read(value: object) -> int:
        # A bool is an int in Python and is none in TOML.
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return reader(f"a whole number from {low} to {high}", read)


def choice(kind: type[StrEnum]) -> Reader:
    """Read one of the values of an enumeration."""
    names = [f'"{member.value}"' for member in kind]

    def read(value: str) -> StrEnum:
        if value not in list(kind):
            raise ValueError
        return kind(value)

    return text_that(" or ".join(filter(None, (", ".join(names[:-1]), names[-1]))), read)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - readers have one error
    return value


def seconds(value: object) -> float:
    """Read a duration; raises ``ValueError`` with or without a reason."""
    match value:
        case bool():
            raise ValueError
        case int() | float():
            length = float(value) if abs(value) <= LONGEST_S else math.inf
        case str():
            found = _DURATION.fullmatch(value)
            if found is None:
                raise ValueError
            length = float(found[1]) * _UNITS[found[2]]
        case _:
            raise ValueError
    if not 0 <= length <= LONGEST_S:
        raise ValueError(f"must lie between 0 and {LONGEST_S / 86_400:.0f} d")
    return length


def _positive_seconds(value: object) -> float:
    length = seconds(value)
    if length == 0:
        raise ValueError("must be more than 0")
    return length


def _some_text(value: str) -> str:
    if not value:
        raise ValueError
    return value


def short(value: str) -> str:
    """Take text that a table has room for; raises ``ValueError`` for the rest."""
    if not value or not value.isprintable() or value != value.strip() or len(value) > _SHORT_MAX:
        raise ValueError
    return value


def _class_name(value: str) -> ClassName:
    if not _NAME.fullmatch(value) or len(value) > _NAME_MAX:
        raise ValueError
    return ClassName(value)


_DURATIONS: Final = 'a duration such as "500ms", "2s", "15min", "24h" or "2d", or a number of seconds'

_NAMES: Final = text_that(
    f"lower-case words and digits joined by dashes, {_NAME_MAX} characters at most", _class_name
)

NameOfClass = Annotated[ClassName, _NAMES]
Name = Annotated[str, _NAMES]
"""Of anything else that has one by the same rule."""
Flag = Annotated[bool, reader("true or false", _flag)]
Seconds = Annotated[float, reader(_DURATIONS, seconds)]
"""A duration in seconds, 0 or more."""
PositiveSeconds = Annotated[float, reader(_DURATIONS, _positive_seconds)]
"""A duration in seconds, more than 0."""
Text = Annotated[str, text_that("text that is not empty", _some_text)]
ShortText = Annotated[str, text_that(f"printable text of 1 to {_SHORT_MAX} characters", short)]
