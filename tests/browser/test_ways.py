"""The ways to the page that docs/how-to/status-page.md shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from support.forwarding import forwarded
from support.memory_desk import NOW, MemoryDesk

if TYPE_CHECKING:
    from support.chromium import Visits
    from support.served import Served


@pytest.mark.parametrize("prefix", ["", "/firmwarden"], ids=["forwarded by ssh", "behind a web server"])
def test_a_page_lives_wherever_it_is_put(
    gateway_page: Served, desk: MemoryDesk, visits: Visits, prefix: str
) -> None:
    with forwarded(gateway_page.path, prefix) as port:
        page = visits.open(f"http://localhost:{port}{prefix}/")
        live = page.locator("#live")
        expect(live).to_have_text("Live")
        page.get_by_role("link", name="panel-1").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("panel-1")
        expect(live).to_have_text("Live")
        desk.fleet["panel-1"]["held"] = "alice: lunch"
        event = {"event": "action-taken", "level": "info", "timestamp": NOW}
        gateway_page.call(desk.ring.publish, "log", event)
        expect(page.get_by_role("heading", name="It is held")).to_be_visible()
        for name in ("Releases", "Log", "Devices"):
            page.get_by_role("banner").get_by_role("link", name=name).click()
            expect(page.get_by_role("heading", level=1)).to_have_text(name)
            expect(live).to_have_text("Live")
        visits.close()
    assert all(path.startswith(f"{prefix}/") for path in visits.requests)
