"""Old releases, which everybody has with their signatures, are dropped anew once the newer one is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.gateway import NEW, OLD, USUAL, device_class, image
from support.hostile_drops import CLASS, Maker

if TYPE_CHECKING:
    from support.gateway import Gateway

DEVICE = f"{CLASS}-0001"
BEFORE = "1.5.0"
AFTER = "2.1.0"


@pytest.mark.parametrize("allowed", [False, True], ids=["", "although the class allows older versions"])
def test_inv3_an_old_release_is_not_given_again(gateway: Gateway, allowed: bool) -> None:
    maker = Maker()
    rack = gateway.rack(CLASS, "--version", OLD)
    settings = (*USUAL, "allow_downgrade = true") if allowed else USUAL
    gateway.configure(maker.tables, device_class(CLASS, rack.match, *settings, signed=True))
    maker.release(gateway.firmware, NEW, image(NEW), "sequence = 7")
    gateway.start()
    gateway.runs(DEVICE, NEW)

    for path in gateway.firmware.iterdir():
        path.unlink()
    maker.release(gateway.firmware, BEFORE, image(BEFORE), "sequence = 6")
    gateway.daemon.wait_for("release-accepted", release=BEFORE)
    gateway.daemon.until(lambda: "sequence 6" in gateway.why(DEVICE)["should_run"], "a refusal")
    assert "confirmed with 7" in gateway.why(DEVICE)["should_run"]

    assert rack.report()[DEVICE]["erase_starts"] == 1

    # Neither after it was forgotten, nor after a restart, nor when it has what is older still.
    device = gateway.id(DEVICE)
    gateway.daemon.until(lambda: not gateway.device(DEVICE)["present"], "its absence")
    gateway.client.delete("devices", device)
    gateway.daemon.stop()
    rack = gateway.rack(CLASS, "--version", OLD)
    gateway.start()
    gateway.daemon.until(lambda: "confirmed with 7" in gateway.why(DEVICE)["should_run"], "the same refusal")
    assert rack.told()[DEVICE]["erase_starts"] == 0

    # What follows is given.
    maker.release(gateway.firmware, AFTER, image(AFTER), "sequence = 8")
    gateway.runs(DEVICE, AFTER)
    told = rack.report()[DEVICE]
    assert told["running"] is not None
    assert (told["running"]["version"], told["erase_starts"]) == (AFTER, 1)
