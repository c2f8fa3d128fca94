"""Somebody can write to the firmware directory: one daemon, everything that is tried, and none of it is taken."""

from __future__ import annotations

import hashlib
import http.client
import re
import stat
from contextlib import closing
from typing import TYPE_CHECKING

from support.gateway import NEW, OLD, device_class, image
from support.hostile_bundles import BUNDLES
from support.hostile_drops import CLASS, DROPS, PUBLISHED, HostileDrop, Intruder, Maker

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import Gateway, Rack


def start(gateway: Gateway, maker: Maker) -> Rack:
    """Start a daemon that has the maker's keys, with a device that runs what everybody has."""
    rack = gateway.rack(CLASS, "--version", OLD)
    gateway.configure(maker.tables, device_class(CLASS, rack.match, signed=True), listen="127.0.0.1:0")
    maker.release(gateway.firmware, PUBLISHED, image(PUBLISHED))
    gateway.start()
    gateway.runs(f"{CLASS}-0001", PUBLISHED)
    return rack


def lay(gateway: Gateway, maker: Maker) -> dict[str, HostileDrop]:
    """Drop everything; returns each attack by what the service calls its manifest."""
    outside = gateway.place / "outside"
    outside.mkdir()
    laid = {}
    for number, drop in enumerate((*DROPS, *BUNDLES)):
        intruder = Intruder(gateway.firmware, outside, maker, drop.name, number)
        drop.lay(intruder)
        laid[drop.told_as or intruder.manifest.name] = drop
    return laid


def refused(gateway: Gateway) -> dict[str, str]:
    return {
        release["manifest"]: release["reason"]
        for release in gateway.client.get("releases")["releases"]
        if release["state"] == "refused"
    }


def everything(directory: Path) -> dict[str, tuple[int, int, int]]:
    """What lies there, and whether it was touched."""
    found = {}
    for path in directory.iterdir():
        status = path.lstat()
        found[path.name] = (status.st_ino, stat.S_IFMT(status.st_mode), status.st_mtime_ns)
    return found


def page(gateway: Gateway, path: str) -> str:
    address = gateway.daemon.said("listening")[-1]["address"]
    with closing(http.client.HTTPConnection(address, timeout=10)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def test_inv8_nothing_that_is_dropped_without_a_key_that_counts_is_taken(gateway: Gateway) -> None:
    maker = Maker()
    rack = start(gateway, maker)
    laid = lay(gateway, maker)
    before = everything(gateway.firmware)

    gateway.daemon.until(lambda: refused(gateway).keys() >= laid.keys(), "a refusal of each", timeout_s=40)

    told = refused(gateway)
    unexplained = {
        drop.name: told[name]
        for name, drop in laid.items()
        if not re.search(re.escape(drop.reason), told[name])
    }
    assert unexplained == {}
    assert told.keys() == laid.keys()
    assert everything(gateway.firmware) == before

    # Whoever looks sees each reason, and nothing that acts on a terminal or a page.
    listed = gateway.command("releases").stdout
    said = "".join(listed.split())  # wrapped, where a line of the table was not enough
    assert all("".join(f"refused: {reason}".split()) in said for reason in told.values())
    for shown in (listed, *gateway.daemon.lines, page(gateway, "/releases")):
        assert "\x1b" not in shown
    assert "<script>alert" not in page(gateway, "/releases")

    # No device was bothered, and an honest release still comes through between all this.
    attempts = gateway.client.get("history")["attempts"]
    assert [attempt["version"] for attempt in attempts] == [PUBLISHED]
    content = image(NEW)
    maker.release(gateway.firmware, NEW, content)
    gateway.runs(f"{CLASS}-0001", NEW)
    device = rack.report()[f"{CLASS}-0001"]
    assert device["running"] is not None
    assert device["running"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert (device["erase_starts"], device["started_partial"]) == (2, False)
