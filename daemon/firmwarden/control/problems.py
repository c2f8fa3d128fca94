"""Errors as problem documents (RFC 9457): what a caller did wrong, or we did, in JSON with a sentence for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from firmwarden.errors import BadManifest, FirmwardenError, NoRoom, NotFound, Refused, StoreError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

TITLES: Final[Mapping[int, str]] = {
    400: "Bad request",
    401: "Token needed",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Refused",
    413: "Too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Bad release",
    500: "Defect",
    501: "Not installed",
    503: "Unavailable",
    507: "No room",
}
"""Not the phrases of ``http.HTTPStatus``: those change between Pythons, and scripts match on ``type``."""


MEANINGS: Final[Mapping[int, str]] = {
    400: "The request says too little, too much, or what cannot be read; nothing was done.",
    401: "Over TCP, an order without the token.",
    403: "Who asks may not; `detail` says which group may, and how to become a member.",
    404: "There is no such thing, or no such path.",
    405: "The path is there, the method is not; `Allow` has those that are.",
    408: "An upload took too long.",
    409: "Understood, but it cannot be done; `detail` says what to do instead.",
    413: "The body is longer than it may be.",
    415: "An upload is no `multipart/form-data`.",
    421: "The request asks for a name that is not this machine's.",
    422: "A release that was sent is not in order; `detail` says why.",
    500: "A defect in Firmwarden; the traceback is in its log.",
    501: "This needs a package that is not installed; `detail` names it.",
    503: (
        "The state database cannot be used, the daemon starts or stops, another upload is under way, or too many "
        "connections are open; with `Retry-After` where it is worth waiting."
    ),
    507: "The disk is full.",
}


class BadRequest(FirmwardenError):
    """A request that does not say what it must, or says more than it may."""

    def __init__(self, detail: str, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status


async def answer(request: Request, exc: Exception) -> JSONResponse:
    """Answer a request that ended with ``exc``."""
    if isinstance(exc, FirmwardenError) and (refusal := _refusal(exc)) is not None:
        return refusal
    match exc:
        case ClientDisconnect():
            return problem(400, "The request was not sent to its end.")  # nobody is left who reads it
        case HTTPException(status_code=405, headers={"Allow": allowed}):
            detail = f"{request.url.path} does not take {request.method}, but {allowed}."
            return problem(405, detail, exc.headers)
        case HTTPException():
            return problem(404, f"{request.method} {request.url.path} is not something this API knows.")
        case _:
            # The traceback goes to the log: starlette raises the exception again once this is sent.
            detail = f"A defect in Firmwarden ({type(exc).__name__}); the daemon's log has the traceback."
            return problem(500, detail)


def _refusal(exc: FirmwardenError) -> JSONResponse | None:
    match exc:
        case BadRequest():
            return problem(exc.status, str(exc))
        case NotFound():
            return problem(404, str(exc))
        case Refused():
            return problem(409, str(exc))
        case BadManifest():
            return problem(422, str(exc))
        case StoreError():
            return problem(503, f"The state database cannot be used now: {exc}")
        case NoRoom():
            return problem(507, str(exc))
        case Unavailable():
            later = None if exc.again_in_s is None else {"Retry-After": str(exc.again_in_s)}
            return problem(503, str(exc), later)
        case _:
            return None


HANDLED: Final = (
    BadRequest,
    ClientDisconnect,
    Refused,
    StoreError,
    BadManifest,
    Unavailable,
    HTTPException,
    Exception,
)
"""What starlette must be told that ``answer`` answers; it includes subclasses."""


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make the document; ``status`` is one of ``TITLES``."""
    title = TITLES[status]
    return JSONResponse(
        {"type": title.lower().replace(" ", "-"), "title": title, "status": status, "detail": detail},
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )
