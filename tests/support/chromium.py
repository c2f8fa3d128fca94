"""The system's Chromium, driven by playwright, which brings no browser of its own."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it, and stop it in the end."""
    program = shutil.which("chromium")
    assert program is not None, "the tests of the status page need Chromium: apt install chromium"
    # Its sandbox does not start for root, which is what a container's user mostly is.
    sandboxed = os.geteuid() != 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, chromium_sandbox=sandboxed, args=[] if sandboxed else ["--no-sandbox"]
        )
        try:
            yield browser
        finally:
            browser.close()
