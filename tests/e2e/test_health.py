"""A unit that does not keep well with its update goes back in the running daemon."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

from support.gateway import NEW, OLD, USUAL, device_class, image

if TYPE_CHECKING:
    from support.gateway import Gateway

WORSE: Final = "3.0.0"
UNIT: Final = "panel-0001"
HEALTH: Final = (
    'health = { soak = "500ms", query = { send = "STATUS?\\n", expect = "WELL", timeout = "200ms" } }'
)


def test_inv1_inv5_it_goes_back_also_when_the_daemon_is_killed_on_the_way(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD, "--ill", WORSE)
    gateway.configure(
        device_class("panel", rack.match, *USUAL, HEALTH, "roll_back = true"), scan_interval="100ms"
    )
    gateway.start()
    gateway.drop("panel", NEW, image(), sequence=1)
    gateway.daemon.wait_for("probation-passed", release=NEW)
    assert gateway.device(UNIT)["floor"] == 1
    mark = gateway.daemon.mark
    gateway.drop("panel", WORSE, image(WORSE), sequence=2)
    failed = gateway.daemon.wait_for("probation-failed", release=WORSE)
    assert failed["detail"] == r"it was asked 3 times, and the last reply was b'ILL\n'"
    gateway.daemon.wait_for("attempt-started", release=NEW, after=mark)
    gateway.daemon.stop(signal.SIGKILL)
    # Nobody has the release any more: what it goes back to is the daemon's own copy.
    for each in gateway.firmware.glob(f"panel-{NEW}.*"):
        each.unlink()
    gateway.start()
    gateway.daemon.wait_for("probation-passed", release=NEW)
    found = gateway.device(UNIT)
    assert (found["running_version"], found["good_version"], found["floor"]) == (NEW, NEW, 1)
    (latch,) = gateway.why(UNIT)["latches"]
    assert (latch["scope"], latch["cause"]["code"]) == ("pair", "unhealthy")
    assert rack.report()[UNIT]["ended_partial"] == 0
