"""Strict reading of what a request carries: bounded, no unknown keys, no guessing (invariant 8)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from firmwarden.control.problems import BadRequest
from firmwarden.service.measures import printable
from firmwarden.toml.values import LONGEST_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from starlette.requests import Request

BODY_LIMIT: Final = 64 * 1024
"""Bytes; the longest honest body is a reason of a few hundred characters."""

TEXT_LIMIT: Final = 500
"""Characters of one value: a reason is a sentence or two, and is shown in tables."""

_SPACES: Final = r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_CONTROLS: Final = (
    r"\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
"""What would move the cursor, turn the text round or not be seen, in the terminal of whoever asks later."""

TEXT_PATTERN: Final = f"^[{_SPACES}]*[^{_SPACES}{_CONTROLS}][^{_CONTROLS}]*$"
"""Not ``str.isprintable``: what that says depends on the Python, and cannot be told to a client."""

LARGEST_ID: Final = 2**63 - 1
"""SQLite's integers end here."""


_TEXT: Final = re.compile(TEXT_PATTERN)
_NUMBER: Final = re.compile(r"[0-9]{1,19}")
"""As many digits as ``LARGEST_ID`` has: ``int`` raises at some thousands, zeros or not."""
_LONE: Final = re.compile(r"[\ud800-\udfff]")
"""Half of a pair of surrogates: JSON can say it (RFC 8259, 8.2), but no encoding can hold it."""


async def read_object(request: Request, *keys: str) -> dict[str, object]:
    """Return the body, a JSON object with no other than these keys; no body is an empty object.

    Raises:
        BadRequest: it is something else.
    """
    raw = b"".join([piece async for piece in pieces(request, BODY_LIMIT)])
    if not raw.strip():
        return {}
    try:
        body = json.loads(raw, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as exc:  # bad JSON, bad UTF-8; thousands of brackets
        raise BadRequest(f"The body is not JSON: {exc}.") from None
    if not isinstance(body, dict):
        raise BadRequest("The body must be a JSON object.")
    _refuse_unknown("key", [str(key) for key in body], keys)
    return body


def text(body: dict[str, object], key: str) -> str:
    """Return a value that must be there and be printable text.

    Raises:
        BadRequest: it is not.
    """
    value = body.get(key)
    if not isinstance(value, str):
        raise BadRequest(
            f"`{key}` is missing; it must be text." if value is None else f"`{key}` must be text."
        )
    if len(value) > TEXT_LIMIT or not _TEXT.fullmatch(value) or _LONE.search(value):
        raise BadRequest(f"`{key}` must be one line of 1 to {TEXT_LIMIT} printable characters.")
    return value.strip()


def flag(body: dict[str, object], key: str) -> bool:
    """Return a value that is true or false; what is not there is false.

    Raises:
        BadRequest: it is something else.
    """
    value = body.get(key, False)
    if not isinstance(value, bool):
        raise BadRequest(f"`{key}` must be true or false.")
    return value


def seconds(body: dict[str, object], key: str) -> float | None:
    """Return a duration, or None where there is none.

    Raises:
        BadRequest: it is something else.
    """
    if key not in body:
        return None
    value = body[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= LONGEST_S:
        raise BadRequest(f"`{key}` must be a number of seconds, more than 0 and at most {LONGEST_S:.0f}.")
    return float(value)


def query(request: Request, *names: str) -> dict[str, str]:
    """Return the query's parameters: no other than these, each at most once.

    Raises:
        BadRequest: it has others.
    """
    found = request.query_params.multi_items()
    _refuse_unknown("parameter", [name for name, _ in found], names)
    if len({name for name, _ in found}) < len(found):
        raise BadRequest("A parameter is given twice.")
    return dict(found)


def number(value: str, name: str, *, lowest: int, highest: int) -> int:
    """Return a parameter as a number within bounds.

    Raises:
        BadRequest: it is not one.
    """
    if not (_NUMBER.fullmatch(value) and lowest <= int(value) <= highest):
        raise BadRequest(f"`{name}` must be a number from {lowest} to {highest}.")
    return int(value)


async def pieces(request: Request, limit: int) -> AsyncGenerator[bytes, None]:
    """Yield the body piece by piece, up to ``limit`` bytes.

    Raises:
        BadRequest: it is longer, or says so at once.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > limit:
        raise _too_long(limit)
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise _too_long(limit)
        yield piece


def _too_long(limit: int) -> BadRequest:
    return BadRequest(f"The body is longer than {limit} bytes.", status=413)


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice")
    return found


def _refuse_unknown(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        expected = f"known here: {', '.join(known)}" if known else "none is expected here"
        raise BadRequest(f"Unknown {what} `{printable(unknown[0][:TEXT_LIMIT])}`; {expected}.")
