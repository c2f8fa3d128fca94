"""The system's Chromium, driven by playwright, which brings no browser of its own."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

from support.programs import program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Dialog, Page

PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 800}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it, and stop it in the end."""
    # Its sandbox does not start for root, which is what a container's user mostly is.
    root = os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium"),
            chromium_sandbox=not root,
            args=["--no-sandbox"] if root else [],
        )
        try:
            yield browser
        finally:
            browser.close()


class Visits:
    """Pages that are looked at, and everything that a good page does not do."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._contexts: list[BrowserContext] = []
        self.faults: list[str] = []
        """Errors and warnings on the console (violations of policy are some), exceptions, dialogs, foreign requests."""
        self.requests: list[str] = []
        """Paths, in order."""

    def open(self, url: str, **options: Any) -> Page:  # noqa: ANN401 - of a browser context
        """Open a page in a browser that has seen nothing yet."""
        context = self._browser.new_context(**{"viewport": DESK, **options})
        context.set_default_timeout(20_000)
        self._contexts.append(context)
        page = context.new_page()
        place = urlsplit(url)

        def note_request(asked: str) -> None:
            parts = urlsplit(asked)
            if (parts.scheme, parts.netloc) == (place.scheme, place.netloc):
                self.requests.append(parts.path)
            elif parts.scheme != "data":
                self.faults.append(f"request to {asked}")

        def dismiss(dialog: Dialog) -> None:
            self.faults.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("request", lambda request: note_request(request.url))
        page.on("dialog", dismiss)
        page.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        page.on(
            "console",
            lambda said: self.faults.append(said.text) if said.type in {"error", "warning"} else None,
        )
        page.goto(url)
        return page

    def close(self) -> None:
        """Close every page."""
        while self._contexts:
            self._contexts.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        assert not self.faults, "\n".join(self.faults)
