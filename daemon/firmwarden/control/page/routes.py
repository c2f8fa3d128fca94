"""The pages: each asks the desk and hands the answer to its template."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from firmwarden.control import problems
from firmwarden.control.page.assets import asset
from firmwarden.control.page.journal import entries
from firmwarden.control.page.rack import arrange
from firmwarden.control.page.rendering import Renderer
from firmwarden.control.requests import query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from firmwarden.control.desk import Desk

HISTORY_SHOWN: Final = 50
"""Attempts and actions on a device's page."""


def make_page(desk: Desk) -> Starlette:
    """Make the status page, to be mounted below everything else; it answers errors in HTML."""
    page = _Page(desk)
    app = Starlette(
        routes=[
            Route("/", page.rack),
            # A label may contain a slash, as in the API.
            Route("/devices/{device:path}", page.device),
            Route("/releases", page.releases),
            Route("/log", page.log),
            Route("/static/{name}", asset),
        ],
        exception_handlers=dict.fromkeys(problems.HANDLED, page.problem),
    )
    app.router.redirect_slashes = False
    return app


class _Page:
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._renderer = Renderer()

    async def rack(self, request: Request) -> Response:
        asked = query(request, "state", "class")
        whole, devices = await self._desk.status(), await self._desk.devices()
        return await self._show(request, "rack.html", whole=whole, rack=arrange(devices, asked))

    async def device(self, request: Request) -> Response:
        query(request)
        why = await self._desk.why(request.path_params["device"])
        history = await self._desk.history(why["device"]["id"], HISTORY_SHOWN)
        return await self._show(request, "device.html", why=why, device=why["device"], history=history)

    async def releases(self, request: Request) -> Response:
        query(request)
        whole, releases = await self._desk.status(), await self._desk.releases()
        return await self._show(request, "releases.html", whole=whole, releases=releases)

    async def log(self, request: Request) -> Response:
        asked = query(request, "device", "level")
        told = entries(self._desk.recent(), asked)
        labels = {device["id"]: device["label"] for device in await self._desk.devices()}
        # Of one device its own page has them.
        acts = [] if asked else (await self._desk.history(None, HISTORY_SHOWN))["actions"]
        return await self._show(request, "log.html", entries=told, asked=asked, labels=labels, acts=acts)

    async def problem(self, request: Request, exc: Exception) -> Response:
        """Answer a request that ended with ``exc``, in the words of the API."""
        answer = await problems.answer(request, exc)
        told = json.loads(bytes(answer.body))
        if isinstance(exc, HTTPException) and exc.status_code == 404:  # noqa: PLR2004
            told["detail"] = f"There is no page at {request.url.path}."
        allow = {"allow": answer.headers["allow"]} if "allow" in answer.headers else None
        return await self._show(
            request, "problem.html", status=answer.status_code, headers=allow, problem=told
        )

    async def _show(
        self,
        request: Request,
        template: str,
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: object,
    ) -> Response:
        # By the path as it was sent: what stands behind a proxy's own prefix, and a slash in a name, stay right.
        depth = request.scope["raw_path"].count(b"/") - 1
        root = "../" * depth or "./"
        shown = {**values, "root": root, "now": datetime.now(UTC)}
        return await self._renderer.page(template, shown, status=status, headers=headers or {})
