"""Everything that is served, as one application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Mount, Router

from firmwarden.control.api import api_routes
from firmwarden.control.page.routes import make_page
from firmwarden.control.problems import HANDLED, answer
from firmwarden.control.scrape import metrics_route

if TYPE_CHECKING:
    import anyio

    from firmwarden.control.desk import Desk


def make_app(desk: Desk, stopping: anyio.Event) -> Starlette:
    """Make the application; its event streams end when ``stopping`` is set."""
    app = Starlette(
        routes=[
            # A slash too many makes another path: no redirection, which would go to whatever host was asked for.
            Mount("/v1", app=Router(api_routes(desk, stopping), redirect_slashes=False)),
            metrics_route(desk),
            Mount("/", app=make_page(desk)),
        ],
        exception_handlers=dict.fromkeys(HANDLED, answer),
    )
    app.router.redirect_slashes = False
    return app
