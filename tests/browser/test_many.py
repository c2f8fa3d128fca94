"""Two hundred devices, all busy: the page keeps up, and does not wear out the daemon."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from support.memory_desk import NOW, MemoryDesk, a_device, a_job

if TYPE_CHECKING:
    from support.chromium import Visits
    from support.served import Served

COUNT = 200
TOTAL = 131_072


@pytest.fixture
def desk() -> MemoryDesk:
    return MemoryDesk(
        *(
            a_device(
                id=f"panel-{number:04}",
                port=f"/dev/serial/by-id/usb-Acme_Panel_{number:04}-if00",
                job=a_job(
                    id=number,
                    device=f"panel-{number:04}",
                    state="running",
                    progress={"step": "write", "done": 0, "total": TOTAL},
                ),
            )
            for number in range(COUNT)
        )
    )


def publish(served: Served, desk: MemoryDesk, done: int) -> None:
    """Have every device get on, and say so in the log too."""
    for number in range(COUNT):
        device = f"panel-{number:04}"
        job = desk.fleet[device]["job"]
        assert job is not None
        job["progress"] = {"step": "write", "done": done, "total": TOTAL}
        sample = {
            "device": device,
            "job": number,
            "attempt": number,
            "step": "write",
            "done": done,
            "total": TOTAL,
        }
        served.call(desk.ring.publish, "progress", sample)
        event = {"event": "job-waiting", "level": "info", "timestamp": NOW, "device": device}
        served.call(desk.ring.publish, "log", event)


def test_two_hundred_devices_at_once(gateway_page: Served, desk: MemoryDesk, visits: Visits) -> None:
    page = visits.open(f"http://127.0.0.1:{gateway_page.port}/")
    expect(page.locator("#live")).to_have_text("Live")
    bars = page.get_by_role("progressbar")
    expect(bars).to_have_count(COUNT)
    for hundredth in range(10, 100, 10):
        publish(gateway_page, desk, TOTAL * hundredth // 100)
    last = page.locator(f"#row-panel-{COUNT - 1:04}")
    expect(last.locator("[data-step]")).to_have_text(re.compile("(89|90) %"))
    expect(last.get_by_role("progressbar")).to_have_attribute("value", re.compile(r"11\d{4}"))

    for device in desk.fleet.values():
        device.update({"job": None, "running_version": "2.4.0"})
    publish_end = {"event": "update-succeeded", "level": "info", "timestamp": NOW, "device": "panel-0000"}
    gateway_page.call(desk.ring.publish, "log", publish_end)
    expect(page.locator("#summary")).to_have_text(f"{COUNT} up to date.")
    expect(bars).to_have_count(0)
    # 1,800 events and as many samples; once when it was opened, once when the stream was, and about once a second.
    assert visits.requests.count("/") < 15
    assert visits.requests.count("/v1/events") == 1
    assert set(visits.requests) == {"/", "/static/page.css", "/static/page.js", "/v1/events"}


def test_what_a_person_looks_at_stays(gateway_page: Served, desk: MemoryDesk, visits: Visits) -> None:
    """Focus and place on the page survive that everything around them is brought up to date."""
    page = visits.open(f"http://127.0.0.1:{gateway_page.port}/")
    expect(page.locator("#live")).to_have_text("Live")
    link = page.get_by_role("link", name="panel-0150")
    link.focus()
    place = page.evaluate("scrollY")
    assert place > 1000
    for number in range(0, COUNT, 2):
        if number != 150:
            desk.fleet[f"panel-{number:04}"].update({"job": None, "running_version": "2.4.0"})
    event = {"event": "update-succeeded", "level": "info", "timestamp": NOW, "device": "panel-0000"}
    gateway_page.call(desk.ring.publish, "log", event)
    expect(page.locator("#summary")).to_have_text("101 updating, 99 up to date.")
    expect(link).to_be_focused()
    expect(link).to_be_in_viewport()
    # Also when it goes to another group itself.
    desk.fleet["panel-0150"].update({"job": None, "running_version": "2.4.0"})
    gateway_page.call(desk.ring.publish, "log", {**event, "device": "panel-0150"})
    expect(page.locator("#group-up-to-date #row-panel-0150")).to_have_count(1)
    expect(link).to_be_focused()


def test_the_page_of_one_device_does_not_follow_the_others(
    gateway_page: Served, desk: MemoryDesk, visits: Visits
) -> None:
    page = visits.open(f"http://127.0.0.1:{gateway_page.port}/devices/panel-0007")
    expect(page.locator("#live")).to_have_text("Live")
    desk.fleet["panel-0007"]["held"] = "alice: lunch"
    event = {"event": "job-waiting", "level": "info", "timestamp": NOW}
    gateway_page.call(desk.ring.publish, "log", {**event, "device": "panel-0008"})
    sample = {
        "device": "panel-0007",
        "job": 7,
        "attempt": 7,
        "step": "write",
        "done": TOTAL // 4,
        "total": TOTAL,
    }
    gateway_page.call(desk.ring.publish, "progress", sample)
    expect(page.locator("[data-step]")).to_have_text("write 25 %")
    gateway_page.call(desk.ring.publish, "log", {**event, "device": "panel-0007"})
    expect(page.get_by_role("heading", name="It is held")).to_be_visible()
    assert desk.whys <= 3  # opened, heard, held


def test_a_tab_that_nobody_sees_lets_go(gateway_page: Served, desk: MemoryDesk, visits: Visits) -> None:
    page = visits.open(f"http://127.0.0.1:{gateway_page.port}/releases")
    live = page.locator("#live")
    expect(live).to_have_text("Live")
    page.evaluate(
        """() => {
          Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    while gateway_page.call(lambda: desk.readers):  # until the server has seen it go
        pass
    desk.shelf[0]["version"] = "9.9.9"
    event = {"event": "release-accepted", "level": "info", "timestamp": NOW}
    gateway_page.call(desk.ring.publish, "log", event)
    page.evaluate(
        """() => {
          delete document.hidden;
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    expect(page.get_by_role("table")).to_contain_text("9.9.9")
