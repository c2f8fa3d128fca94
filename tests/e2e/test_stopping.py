"""The daemon is told to stop: nothing is left claimed, and the next start goes on."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from support.gateway import NEW, OLD, QUERY, SEND, USUAL, Gateway, device_class, image

if TYPE_CHECKING:
    from support.gateway import Rack


def start(gateway: Gateway, *options: object, more: tuple[str, ...] = USUAL, **settings: object) -> Rack:
    """Start a daemon with an update that takes one and a half seconds."""
    rack = gateway.rack("panel", "--version", OLD, "--paced", 115_200, *options)
    gateway.configure(device_class("panel", rack.match, *more), **settings)
    gateway.drop("panel", NEW, image())
    gateway.start()
    return rack


def events(gateway: Gateway) -> list[str]:
    return [record["event"] for record in gateway.daemon.records()]


def assert_goes_on(gateway: Gateway, rack: Rack, *, erases: int) -> None:
    """Start it again: it finds nothing claimed, and finishes what it began."""
    daemon = gateway.start()
    gateway.job("panel-0001", "succeeded")
    assert not daemon.said("attempt-interrupted")
    assert len(gateway.client.get("jobs")["jobs"]) == 1
    device = rack.report()["panel-0001"]
    assert device["running"] is not None
    assert device["running"]["version"] == NEW
    assert (device["erase_starts"], device["started_partial"], device["ended_partial"]) == (erases, 0, 0)
    assert gateway.devices()[0]["wear"]["life"] == erases


def test_a_transfer_may_finish_within_the_grace(gateway: Gateway) -> None:
    rack = start(gateway, grace="20s")
    rack.wait_for("start", "panel-0001")
    assert gateway.daemon.stop() == 0
    assert events(gateway)[-3:] == ["daemon-stopping", "update-succeeded", "daemon-stopped"]
    assert not gateway.socket.exists()
    assert_goes_on(gateway, rack, erases=1)


def test_inv1_without_grace_it_stops_between_commands(gateway: Gateway) -> None:
    rack = start(gateway, grace=0)
    rack.wait_for("start", "panel-0001")
    assert gateway.daemon.stop() == 0
    assert events(gateway)[-2:] == ["attempt-failed", "daemon-stopped"]
    (failed,) = gateway.daemon.said("attempt-failed")
    assert (failed["cause"], failed["next"]) == ("stopping", "queued")
    rack.process.until(lambda: not rack.told()["panel-0001"]["complete"], "a partial image")
    assert rack.told()["panel-0001"]["mode"] == "loader"
    assert_goes_on(gateway, rack, erases=2)


def test_a_second_signal_ends_the_grace(gateway: Gateway) -> None:
    rack = start(gateway, grace="20s")
    rack.wait_for("start", "panel-0001")
    gateway.daemon.send(signal.SIGTERM)
    gateway.daemon.wait_for("daemon-stopping")
    assert gateway.daemon.stop(signal.SIGINT) == 0
    assert events(gateway)[-3:] == ["daemon-stopping", "attempt-failed", "daemon-stopped"]
    assert_goes_on(gateway, rack, erases=2)


def test_what_has_not_erased_yet_does_not_begin_to(gateway: Gateway) -> None:
    # It waits a second for an answer that does not come.
    enter = SEND.replace('"OK", timeout = "300ms"', '"NEVER", timeout = "1s"')
    rack = start(gateway, more=(enter, *USUAL[1:]), grace="20s")
    rack.wait_for("loader-requested", "panel-0001")
    assert gateway.daemon.stop() == 0
    assert events(gateway)[-2:] == ["attempt-failed", "daemon-stopped"]
    assert rack.told()["panel-0001"]["erase_starts"] == 0
    (attempt,) = gateway.daemon.said("attempt-failed")
    assert attempt["cause"] == "stopping"
    assert_goes_on(gateway, rack, erases=1)


def test_inv2_an_application_that_still_starts_is_waited_for(gateway: Gateway) -> None:
    slow = USUAL[2].replace('boot_delay = "200ms"', 'boot_delay = "2s"')
    rack = start(gateway, more=(SEND, QUERY, slow), grace=0)
    rack.wait_for("end", "panel-0001")
    assert gateway.daemon.stop() == 0
    # It was told to start the image, so what became of it is known, or asked first thing by the next start.
    assert events(gateway)[-2] in {"update-succeeded", "update-unknown"}
    assert_goes_on(gateway, rack, erases=1)


def test_nothing_starts_while_it_stops(gateway: Gateway) -> None:
    rack = start(gateway, "--count", 2, parallel=1, grace="20s")
    running = gateway.daemon.wait_for("attempt-started")["device"]
    (busy,) = [name for name in rack.addresses if gateway.id(name) == running]
    (idle,) = rack.addresses.keys() - {busy}
    rack.wait_for("start", busy)
    gateway.daemon.send(signal.SIGTERM)
    gateway.daemon.wait_for("daemon-stopping")
    assert gateway.client.get("status")["state"] == "stopping"
    assert gateway.daemon.wait() == 0
    assert [each["device"] for each in gateway.daemon.said("update-succeeded")] == [running]
    assert rack.told()[idle]["opens"] == 0
    gateway.start()
    gateway.job(idle, "succeeded")


def test_an_idle_daemon_stops_at_once_and_a_reload_does_not_stop_it(gateway: Gateway) -> None:
    gateway.configure()
    gateway.start()
    gateway.reload()
    assert gateway.daemon.stop(signal.SIGINT) == 0
    assert not gateway.socket.exists()
