"""A disk that takes nothing any more, under the running daemon: what it began is kept, and goes on when it can.

No file of the daemon may grow any more (setrlimit(2), RLIMIT_FSIZE), which SQLite reports as it does a broken disk.
Disks that are really full or read-only need a machine of their own: tests/usb/test_disk.py.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

from support.gateway import NEW, OLD, Rack, device_class, image

if TYPE_CHECKING:
    from support.gateway import Gateway
    from support.processes import Process


def let_grow(daemon: Process, size: int) -> None:
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, hard))


def start(gateway: Gateway, *options: object) -> Rack:
    rack = gateway.rack("panel", "--version", OLD, *options)
    gateway.configure(device_class("panel", rack.match))
    gateway.start()
    return rack


def test_inv8_a_release_that_cannot_be_stored_is_refused_and_taken_later(gateway: Gateway) -> None:
    rack = start(gateway)
    kept = gateway.state / "images"
    let_grow(gateway.daemon, 0)
    gateway.drop("panel", NEW, image())

    refused = gateway.daemon.wait_for("release-refused")
    assert refused["reason"] == f"panel-{NEW}.img cannot be stored: File too large"
    assert list(kept.iterdir()) == [], "nothing is left of it"

    let_grow(gateway.daemon, resource.RLIM_INFINITY)
    gateway.daemon.wait_for("release-accepted", timeout_s=45.0)
    gateway.job("panel-0001", "succeeded")
    assert len(gateway.daemon.said("release-refused")) == 1
    assert rack.report()["panel-0001"]["erase_starts"] == 1


def test_inv1_inv5_what_cannot_be_written_down_is_not_done(gateway: Gateway) -> None:
    rack = start(gateway, "--flash-time", 0.1)
    gateway.drop("panel", NEW, image())
    rack.wait_for("start", "panel-0001")
    let_grow(gateway.daemon, 0)

    gateway.daemon.wait_for("store-failed")
    (problem,) = gateway.client.get("status")["problems"]
    assert "the storage reports an error" in problem
    assert gateway.why("panel-0001")["next"] == (
        f"Nothing, until what is done can be written down again: {problem}."
    )
    assert gateway.command("retry", gateway.id("panel-0001")).returncode == 1
    # The image came to its end, and was not started, for that could not be written down.
    assert "end-transfer" not in rack.told()["panel-0001"]["commands"]

    let_grow(gateway.daemon, resource.RLIM_INFINITY)
    gateway.runs("panel-0001", NEW)
    assert len(gateway.daemon.said("store-failed")) == 1
    assert gateway.client.get("status")["problems"] == []
    attempts = gateway.client.get("history")["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["succeeded", "interrupted"]
    assert attempts[1]["cause"]["code"] == "state-unwritable"
    report = rack.report()["panel-0001"]
    assert (report["ended_partial"], report["started_partial"], report["erase_starts"]) == (0, 0, 2)
    assert gateway.daemon.stop() == 0
