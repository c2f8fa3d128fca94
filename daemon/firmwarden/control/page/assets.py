"""The page's own files: one style sheet, one script."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from firmwarden.control.page.rendering import HEADERS

if TYPE_CHECKING:
    from starlette.requests import Request

_KINDS: Final = {"page.css": "text/css", "page.js": "text/javascript"}


async def asset(request: Request) -> Response:
    """Answer with a file, or with the news that the browser's copy is still right."""
    name = request.path_params["name"]
    if name not in _KINDS:
        raise HTTPException(404)
    content, tag = _read(name)
    # A browser keeps it, and asks each time: after an upgrade of the daemon it must not use the old one.
    headers = {**HEADERS, "etag": tag, "cache-control": "no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_KINDS[name], headers=headers)


@cache
def _read(name: str) -> tuple[bytes, str]:
    content = (resources.files(__package__) / "static" / name).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:16]}"'
