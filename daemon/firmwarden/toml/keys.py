"""Which keys a table may have, what each expects and what it is when left out.

Tables are frozen dataclasses that inherit from ``Table``; a field is a key by the same name and its annotation
says how it is read.  Error messages and the tests of the reference documentation ask here.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, Tag

from firmwarden.toml.values import Reader, shown

if TYPE_CHECKING:
    from collections.abc import Iterator


def _key(field: str) -> str:
    """Name the key of a field; one that is a word of Python has an underscore behind it there."""
    return field.removesuffix("_")


class Table:
    """Base of the dataclasses that describe a table: a key that they do not have is a fault."""

    __slots__ = ()
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", alias_generator=_key)


@dataclass(frozen=True, slots=True)
class Key:
    """What is to be said about one key."""

    expected: str
    default: object
    """``dataclasses.MISSING`` where the key must be given."""


def keys_of(table: type[Table]) -> Iterator[tuple[tuple[str, ...], Key]]:
    """Yield the path and the facts of every key, also those of the tables within.

    Where a table may be one of several, the path has the tag of the alternative, as in pydantic's errors.
    """
    hints = get_type_hints(table, include_extras=True)
    for each in fields(table):  # type: ignore[arg-type]  # those who inherit are dataclasses
        hint = hints[each.name]
        default = each.default if each.default_factory is MISSING else each.default_factory()
        name = _key(each.name)
        yield (name,), Key(_expected(hint), default)
        for tags, inner in _tables_in(hint):
            for below, key in keys_of(inner):
                yield (name, *tags, *below), key


def _tables_in(hint: Any) -> Iterator[tuple[tuple[str, ...], type[Table]]]:  # noqa: ANN401 - annotations have no type
    if isinstance(hint, type) and issubclass(hint, Table):
        yield (), hint
    tags = tuple(data.tag for data in getattr(hint, "__metadata__", ()) if isinstance(data, Tag))
    for part in get_args(hint):
        for below, table in _tables_in(part):
            yield (*tags, *below), table


def _expected(hint: Any) -> str:  # noqa: ANN401 - as above
    for data in getattr(hint, "__metadata__", ()):
        if isinstance(data, Reader):
            return data.expected
    if isinstance(hint, type) and issubclass(hint, Table):
        return "a table"
    first = get_args(hint)[0]
    if get_origin(hint) is tuple:
        return f"an array, each item {_expected(first)}"
    if get_origin(hint) is Literal:
        return shown(first)
    return _expected(first)  # an optional value, or one of several tables
