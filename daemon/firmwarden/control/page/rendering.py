"""Templates to HTML, with everything that keeps strangers' text from being more than text.

Jinja2 belongs to the extra ``web``: it is imported by the first page that is asked for.  That, and each rendering, is
done in a thread, since the page of a big rack takes longer than the event loop may (invariant 6), and one at a time.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import anyio
from anyio import to_thread
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from firmwarden import __version__
from firmwarden.control.page.standing import Standing, standing_of
from firmwarden.service import measures, words
from firmwarden.service.measures import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jinja2 import Environment

HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
"""Of everything that the page is made of."""

MISSING: Final = (
    "The status page needs Jinja2, which is not installed: it comes with the extra `web`.\n\n"
    "    pip install 'firmwarden[web]'\n\n"
    "Then restart the daemon. Until then `firmwarden status`, `firmwarden devices` and `firmwarden why DEVICE` tell "
    "the same.\n"
)

_APART: Final = re.compile(f"(`[^`]*`|{measures.INSTANT.pattern}|\n)")


class Renderer:
    """Makes pages."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(1)

    async def page(
        self, template: str, values: Mapping[str, object], *, status: int, headers: Mapping[str, str]
    ) -> Response:
        """Render a template; without Jinja2 the answer says what to install."""
        headers = {**HEADERS, **headers, "cache-control": "no-store"}
        try:
            text = await to_thread.run_sync(_render, template, values, limiter=self._limiter)
        except ModuleNotFoundError as exc:
            if exc.name != "jinja2":
                raise
            return PlainTextResponse(MISSING, status_code=501, headers=headers)
        return HTMLResponse(text, status_code=status, headers=headers)


def _render(template: str, values: Mapping[str, object]) -> str:
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """Return what the templates are rendered with; the first call imports Jinja2."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415  (see above)

    made = Environment(
        loader=PackageLoader(__package__ or ""),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(
        pieces=_pieces, past=_past, part=partial(quote, safe=""), place=_place, local=_local, clock=_clock
    )
    made.globals.update(
        version=__version__,
        Standing=Standing,
        standing_of=standing_of,
        words=words,
        measures=measures,
    )
    return made


def _harmless(value: object) -> object:
    """Show nothing that is not printable; markup is made by the templates alone."""
    return value if hasattr(value, "__html__") else printable(value)


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Take text apart into words, commands, which stand in backticks, instants, and ends of lines."""
    for piece in _APART.split(text):
        if piece.startswith("`") and piece.endswith("`") and len(piece) > 1:
            yield "command", piece[1:-1]
        elif piece == "\n":
            yield "break", ""
        else:
            yield "instant" if measures.is_instant(piece) else "words", piece


def _past(instant: str, now: datetime) -> bool:
    return datetime.fromisoformat(instant) <= now


def _place(port: str) -> str:
    """Name a port without the directory that every other is in, too."""
    for directory in ("/dev/serial/by-id/", "/dev/serial/by-path/", "/dev/"):
        if port.startswith(directory):
            return port.removeprefix(directory)
    return port


def _clock(instant: str) -> str:
    """Tell the time of day of an instant by the gateway's own clock."""
    return f"{measures.local(instant):%H:%M:%S}"


def _local(instant: str) -> str:
    """Tell an instant by the gateway's own clock and zone."""
    return f"{measures.local(instant):%Y-%m-%d %H:%M:%S %Z}"
