"""The page while the real daemon updates simulated devices, dies, and comes back."""

from __future__ import annotations

import re
import signal
import socket
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from support.gateway import NEW, OLD, Gateway, device_class, image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.chromium import Visits

SIZE = 96 * 1024
CUT_OFF = re.compile("net::ERR_(CONNECTION|INCOMPLETE|EMPTY)")


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path)
    yield made
    made.close()


@pytest.fixture
def address() -> str:
    """A place that is the same after a restart of the daemon."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_an_update_is_seen_from_its_beginning_to_its_end_without_a_reload(
    gateway: Gateway, visits: Visits, address: str
) -> None:
    rack = gateway.rack("panel", "--version", OLD, "--count", "2", "--paced", "230400")
    gateway.configure(device_class("front-panel", rack.match), listen=address)
    gateway.start()
    device = gateway.id("panel-0001")
    page = visits.open(f"http://{address}/")
    expect(page.locator("#live")).to_have_text("Live")
    row = page.locator(f"#row-{device}")
    expect(row.get_by_role("cell").nth(2)).to_have_text("not known")
    page.evaluate("window.loaded = 'once'")
    summary = page.locator("#summary")

    gateway.drop("front-panel", NEW, image(size=SIZE))
    bar = row.get_by_role("progressbar")
    expect(bar).to_have_attribute("max", re.compile(r"\d{5}"))
    expect(summary).to_have_text("2 updating.")
    expect(row.locator("[data-step]")).to_have_text(re.compile(r"write \d+ %"))
    # Rate and time left are told after a second of samples, and move without the page being fetched again.
    pace = row.locator("[data-pace]")
    expect(pace).to_have_text(re.compile(r"\d+\.\d KiB/s, \d+ s left"))
    first = bar.evaluate("bar => bar.value")
    expect(bar).not_to_have_attribute("value", str(first))
    assert bar.evaluate("bar => bar.value") > first

    expect(page.locator(f"#group-up-to-date #row-{device}")).to_have_count(1)
    expect(summary).to_have_text("2 up to date.")
    expect(row.get_by_role("cell").nth(2)).to_have_text(NEW)
    assert page.evaluate("window.loaded") == "once"

    # The device's own page, and what the command line says: the same.
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(device)
    expect(page.get_by_role("main")).to_contain_text(gateway.why("panel-0001")["runs"].split(",")[0])
    expect(page.locator("#tried + ol li")).to_have_count(1)
    held = gateway.command("hold", device, "--reason", "a person is at work")
    assert held.returncode == 0, held.stderr
    expect(page.locator("#held + p")).to_contain_text("a person is at work")


def test_a_page_survives_the_daemon(gateway: Gateway, visits: Visits, address: str) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("front-panel", rack.match), listen=address)
    gateway.start()
    device = gateway.id("panel-0001")
    page = visits.open(f"http://{address}/")
    live = page.locator("#live")
    expect(live).to_have_text("Live")
    page.evaluate("window.loaded = 'once'")

    gateway.daemon.send(signal.SIGKILL)
    gateway.daemon.wait()
    expect(live).to_have_text(re.compile(r"Not live, last heard at \d+:\d\d:\d\d.*; trying again"))
    expect(live).to_have_class("live off")
    # What was known is still shown.
    expect(page.locator(f"#row-{device}")).to_be_visible()

    gateway.drop("front-panel", NEW, image())
    gateway.start()
    gateway.runs("panel-0001", NEW)
    expect(live).to_have_text("Live")
    expect(page.locator(f"#group-up-to-date #row-{device}")).to_contain_text(NEW)
    assert page.evaluate("window.loaded") == "once"

    gateway.daemon.stop()
    expect(live).to_have_class("live off")
    visits.close()
    # The browser itself says that nobody was there.
    visits.faults[:] = [fault for fault in visits.faults if not CUT_OFF.search(fault)]
