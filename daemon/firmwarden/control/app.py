"""Everything that is served, as one application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Mount

from firmwarden.control.api import api_routes
from firmwarden.control.page.routes import make_page
from firmwarden.control.problems import HANDLED, answer
from firmwarden.control.scrape import metrics_route

if TYPE_CHECKING:
    import anyio

    from firmwarden.control.desk import Desk


def make_app(desk: Desk, stopping: anyio.Event) -> Starlette:
    """Make the application; its event streams end when ``stopping`` is set."""
    return Starlette(
        routes=[
            Mount("/v1", routes=api_routes(desk, stopping)),
            metrics_route(desk),
            Mount("/", app=make_page(desk)),
        ],
        exception_handlers=dict.fromkeys(HANDLED, answer),
    )
