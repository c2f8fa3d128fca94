"""One TOML file, read and checked whole: a value of the wanted type, or every fault at once.

pydantic does the checking; what leaves this module knows nothing of it.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeVar

import tomli
from pydantic import TypeAdapter, ValidationError

from firmwarden.errors import FirmwardenError
from firmwarden.toml.keys import Key, Table, keys_of
from firmwarden.toml.lines import MOST_PARTS, Path, find_lines, find_long_key
from firmwarden.toml.values import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)

T = TypeVar("T", bound=Table)


class BadToml(FirmwardenError):
    """A file is refused; each of ``problems`` names file, line and key."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Document:
    """A file that is TOML, and where in it everything stands."""

    name: str
    data: Mapping[str, Any]
    lines: Mapping[Path, int]

    def check(self, kind: type[T], value: object, at: Path = ()) -> T:
        """Make a ``kind`` of ``value``, which stands at ``at``.

        Raises:
            BadToml: with every fault, in the order of the file.
        """
        try:
            checked: T = _adapter(kind).validate_python(value)  # type: ignore[arg-type]  # classes do hash
        except ValidationError as exc:
            keys = dict(keys_of(kind))
            faults = [
                ((*at, *error["loc"]), _explain(error, keys)) for error in exc.errors(include_url=False)
            ]
        else:
            return checked
        faults.sort(key=lambda fault: self.line(fault[0]))
        raise BadToml(*(self.problem(*fault) for fault in faults))

    def problem(self, at: Path, text: str) -> str:
        """Write a message about the key ``at``."""
        place = f"{self.name}:{self.line(at)}"
        return f"{place}: {_dotted(_without_tags(at))}: {text}" if at else f"{place}: {text}"

    def line(self, at: Path) -> int:
        """Find the line of the key ``at``, or of the nearest table around it where it is missing."""
        at = _without_tags(at)
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)


def read_toml(raw: bytes, name: str) -> Document:
    """Parse a file that is called ``name`` in messages.

    Raises:
        BadToml: it is not UTF-8 or not TOML, or has longer keys than any of ours.
    """
    try:
        text = raw.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise BadToml(f"{name}:{line}: expected UTF-8, got the byte 0x{raw[exc.start]:02x}") from None
    long = find_long_key(text)
    if long is not None:
        raise BadToml(f"{name}:{long}: expected keys of {MOST_PARTS} parts at most")
    try:
        data = tomli.loads(text)
    except tomli.TOMLDecodeError as exc:
        raise BadToml(f"{name}:{exc.lineno}:{exc.colno}: expected TOML: {exc.msg}") from None
    except (ValueError, RecursionError) as exc:
        # Thousands of digits or brackets: tomli leaves them to Python's own limits.
        raise BadToml(f"{name}:1: expected TOML: {exc}") from None
    return Document(name=name, data=data, lines=find_lines(text))


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)


def _explain(error: Mapping[str, Any], keys: Mapping[tuple[str, ...], Key]) -> str:
    place = tuple(part for part in error["loc"] if isinstance(part, str))
    match error["type"]:
        case "value_error":
            return str(error["ctx"]["error"])
        case "missing":
            inside = ", ".join(path[-1] for path in keys if path[:-1] == place)
            return f"is missing; expected {keys[place].expected}{f' with {inside}' if inside else ''}"
        case "unexpected_keyword_argument":
            known = sorted(path[-1] for path in keys if path[:-1] == place[:-1])
            alike = difflib.get_close_matches(place[-1], known, n=1)
            return (
                f'unknown key; did you mean "{alike[0]}"?'
                if alike
                else f"unknown key; known here: {', '.join(known)}"
            )
        case "dataclass_type":
            return f"expected a table, got {shown(error['input'])}"
        case "tuple_type" if isinstance(error["input"], dict) and any(path[:-1] == place for path in keys):
            return f"expected [[{_dotted(place)}]], with two brackets, got [{_dotted(place)}]"
        case "tuple_type":
            return f"expected an array, got {shown(error['input'])}"
        case _:
            return str(error["msg"])


def _without_tags(path: Path) -> Path:
    """Drop what names one of several possible tables: see ``keys_of``."""
    return tuple(
        part for part in path if not (isinstance(part, str) and part.startswith("<") and part.endswith(">"))
    )


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else shown(part))
    return text
