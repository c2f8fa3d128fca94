"""Takes the pictures of the status page that the documentation shows.

``make pictures`` (``python -m support.page_pictures``) takes them anew; the rack on them is made up, the page is not.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from playwright.sync_api import expect

from support.chromium import DESK, PHONE, Visits, chromium
from support.page_rack import STOPPED, PageRack
from support.pages import DOCS
from support.served import served

PLACE: Final = DOCS / "images"
TALL: Final = {"height": 1000}
PICTURES: Final = (
    ("rack-light", "/", "light", DESK | TALL),
    ("rack-dark", "/", "dark", DESK | TALL),
    ("device-light", f"/devices/{STOPPED}", "light", DESK | TALL),
    ("phone-dark", "/", "dark", PHONE | TALL),
)


def main() -> None:
    PLACE.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as state,
        served(PageRack(), Path(state) / "control.sock", tcp=True) as running,
        chromium() as browser,
        Visits(browser) as visits,
    ):
        for name, path, scheme, size in PICTURES:
            page = visits.open(
                f"http://127.0.0.1:{running.port}{path}",
                color_scheme=scheme,
                viewport=size,
                reduced_motion="reduce",
            )
            expect(page.locator("#live")).to_have_text("Live")
            page.screenshot(path=PLACE / f"status-page-{name}.png")


if __name__ == "__main__":
    main()
