"""On which line each key and each item of an array stands.

TOML parsers give values and forget where they stood.  This walks a text that a real parser has already
accepted, so it can be short: it needs to know where keys, strings and brackets begin and end, and nothing
of what values mean.  A test compares the paths it finds with those of the parser.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import tomli

if TYPE_CHECKING:
    from collections.abc import Mapping

Path = tuple[str | int, ...]

MOST_PARTS: Final = 16
"""Of a key; none of ours has half as many.  Parsers keep every prefix of a path, and so does the walk, so a long one
costs time and memory by the square of its length: 64 KiB of keys of hundreds of parts would take 240 MiB."""
_DEEPEST: Final = 64
"""Parts of a path to a table or an array, for the same reason."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
# TOML's four kinds of strings.
_BASIC: Final = r'"(?:\\.|[^"\\])*"'
_LITERAL: Final = r"'[^']*'"
_BASIC_LINES: Final = r'"""(?:\\.|[^\\])*?"{3,5}(?!")'
_LITERAL_LINES: Final = r"'''.*?'{3,5}(?!')"
_STRING: Final = re.compile(f"{_BASIC_LINES}|{_LITERAL_LINES}|{_BASIC}|{_LITERAL}", re.DOTALL)
_PART: Final = rf"(?:{_BASIC}|{_LITERAL}|[A-Za-z0-9_-]+)"
_DOTTED: Final = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*+"
_KEY: Final = re.compile(rf"[ \t]*{_DOTTED}[ \t]*")
_SCALAR: Final = re.compile(r"[^,\]}\n#]*")
# A string that does not end is one token with all behind it: no parser gets further, and nothing is tried twice.
_TOKEN: Final = re.compile(
    rf"#[^\n]*|{_BASIC_LINES}|{_LITERAL_LINES}|(?:\"\"\"|''').*|(?P<dotted>{_DOTTED})|[\"'].*", re.DOTALL
)


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0
        self._arrays: dict[Path, int] = {}
        self.found: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip_blank():
            if self._peek("["):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        brackets = 2 if self._peek("[[") else 1
        self._at += brackets
        line = self._here()
        *parents, last = self._key()
        self._at += brackets
        path: Path = ()
        for part in parents:
            path = self._latest((*path, part), line)
        path = (*path, last)
        if brackets == 1:
            self.found[path] = line  # rather than a line of [this.child] further up
            return path
        self._arrays[path] = self._arrays.get(path, -1) + 1
        return self._latest(path, line)

    def _latest(self, path: Path, line: int) -> Path:
        """Step into the last table of an array of tables, where the path leads to one."""
        self.found.setdefault(path, line)
        if path not in self._arrays:
            return path
        path = (*path, self._arrays[path])
        self.found.setdefault(path, line)
        return path

    def _pair(self, table: Path) -> None:
        line = self._here()
        for part in self._key():
            table = (*table, part)
            self.found.setdefault(table, line)
        self._at += 1  # the equals sign
        self._value(table)

    def _key(self) -> list[str]:
        found = self._take(_KEY)
        value: object = tomli.loads(f"{found} = 0")
        parts = []
        while isinstance(value, dict):
            [(part, value)] = value.items()
            parts.append(part)
        return parts

    def _value(self, path: Path) -> None:
        self._skip_blank()
        if self._peek("["):
            self._items(path, "]")
        elif self._peek("{"):
            self._items(path, "}")
        elif self._peek('"') or self._peek("'"):
            self._take(_STRING)
        else:
            self._take(_SCALAR)

    def _items(self, path: Path, closing: str) -> None:
        if len(path) > _DEEPEST:
            raise ValueError(f"a path of {len(path)} parts")
        self._at += 1
        index = 0
        while self._skip_blank() and not self._peek(closing):
            if self._peek(","):
                self._at += 1
            elif closing == "}":
                self._pair(path)
            else:
                item = (*path, index)
                self.found[item] = self._here()
                self._value(item)
                index += 1
        self._at += 1

    def _skip_blank(self) -> bool:
        self._take(_BLANK)
        return self._at < len(self._text)

    def _peek(self, what: str) -> bool:
        return self._text.startswith(what, self._at)

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            raise ValueError(f"no TOML at offset {self._at}")
        self._at = found.end()
        return found[0]

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line


def find_long_key(text: str) -> int | None:
    """Find the line, from 1, of a key of more than ``MOST_PARTS``, before a parser sees ``text``.

    In what is not TOML it may take something else for a key, but only behind the place where a parser gives up.
    """
    for token in _TOKEN.finditer(text):
        dotted = token["dotted"] or ""
        if dotted.count(".") >= MOST_PARTS and len(re.findall(_PART, dotted)) > MOST_PARTS:
            return text.count("\n", 0, token.start()) + 1
    return None


def find_lines(text: str) -> Mapping[Path, int]:
    """Map each path of keys and array indices in ``text``, which is valid TOML, to its line, from 1.

    Where the walk does not know its way, it ends: a message without its line is better than none.
    """
    walk = _Walk(text)
    with suppress(ValueError):
        walk.document()
    return walk.found
