"""Releases go out in waves in the running daemon: over restarts, into a bad release, and back."""

from __future__ import annotations

import getpass
import signal
from typing import TYPE_CHECKING, Final

from support.gateway import NEW, OLD, USUAL, device_class, image

if TYPE_CHECKING:
    from firmwarden.service.views import RolloutView
    from support.gateway import Gateway

WORSE: Final = "3.0.0"
UNITS: Final = 6
WELL: Final = (
    'health = { soak = "1s", return_within = "10s", query = { send = "STATUS?\\n", expect = "WELL" } }'
)


def start(gateway: Gateway, *more: str, soak: str) -> None:
    rack = gateway.rack("panel", "--count", UNITS, "--version", OLD, "--ill", WORSE)
    rule = f'rollout = {{ first = 2, soak = "{soak}", waves = [50, 100] }}'
    gateway.configure(device_class("panel", rack.match, *USUAL, rule, *more), scan_interval="100ms")
    gateway.start()
    gateway.daemon.until(lambda: len(gateway.devices()) == UNITS, "all devices")


def do(gateway: Gateway, *arguments: object) -> str:
    """Run a command that succeeds; returns what it says on one line."""
    done = gateway.command(*arguments)
    assert done.returncode == 0, done
    return " ".join(done.stdout.split())


def rollout(gateway: Gateway, version: str) -> RolloutView | None:
    found: list[RolloutView] = gateway.client.get("rollouts")["rollouts"]
    return next((each for each in found if each["version"] == version), None)


def until(gateway: Gateway, version: str, state: str) -> RolloutView:
    """Wait until the rollout of a version is in a state."""

    def reached() -> RolloutView | None:
        found = rollout(gateway, version)
        return found if found is not None and found["state"] == state else None

    return gateway.daemon.until(reached, f"a rollout of {version} that is {state}")


def running(gateway: Gateway, version: str) -> int:
    return sum(device["running_version"] == version for device in gateway.devices())


def test_inv5_a_release_goes_out_in_waves_also_when_the_daemon_is_killed_between_them(
    gateway: Gateway,
) -> None:
    start(gateway, soak="4s")
    gateway.drop("panel", NEW, image())

    def soaks() -> bool:
        found = rollout(gateway, NEW)
        return found is not None and found["until"] is not None

    gateway.daemon.until(soaks, "canaries that soak")
    assert running(gateway, NEW) == 2
    assert "soaks on 2 canaries" in do(gateway, "status")
    told = do(gateway, "rollout", "panel")
    assert told.count("runs it well") == 2
    assert (told.count("turn in wave 1"), told.count("turn in wave 2")) == (1, 3)
    waiting = next(device for device in gateway.devices() if device["running_version"] != NEW)
    assert "this one has its turn in wave" in do(gateway, "why", waiting["id"])
    gateway.daemon.stop(signal.SIGKILL)
    gateway.start()
    begun = gateway.daemon.wait_for("wave-started", wave=1)
    assert (begun["places"], begun["devices"]) == (3, UNITS)
    until(gateway, NEW, "done")
    assert running(gateway, NEW) == UNITS
    assert [each["wave"] for each in gateway.daemon.said("wave-started")] == [1, 2]


def test_a_release_that_makes_its_canaries_ill_stops_there_and_is_called_back(gateway: Gateway) -> None:
    start(gateway, WELL, "roll_back = true", soak="1s")
    gateway.drop("panel", NEW, image())
    until(gateway, NEW, "done")
    gateway.drop("panel", WORSE, image(WORSE))
    stopped = until(gateway, WORSE, "stopped")
    assert stopped["tried"] == 2
    gateway.daemon.until(lambda: running(gateway, NEW) == UNITS, "canaries that went back")
    told = do(gateway, "status")
    assert (
        f"The rollout of panel {WORSE} stopped at 2 canaries: {stopped['failed']} of 2 devices failed."
        in told
    )
    assert "`firmwarden resume panel` lets it go on, `firmwarden recall panel --reason TEXT`" in told
    assert do(gateway, "resume", "panel") == f"the rollout of panel {WORSE} goes on where it stopped"
    gateway.daemon.wait_for("wave-started", release=WORSE)
    until(gateway, WORSE, "stopped")
    gateway.daemon.until(lambda: running(gateway, NEW) == UNITS, "a third one that went back")
    said = do(gateway, "recall", "panel", "--reason", "hums at night")
    assert said.startswith(f"{WORSE} of panel is called back: no device is given it any more")
    until(gateway, WORSE, "recalled")
    history = do(gateway, "history")
    for act in (f"resume {WORSE}", f"recall {WORSE}: hums at night"):
        assert f"panel {getpass.getuser()}: {act}" in history
    again = gateway.command("recall", "panel", "--reason", "hums")
    assert (again.returncode, f"{WORSE} was called back already" in again.stderr) == (1, True)


def test_a_release_is_called_back_that_went_to_all_at_once(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--count", 3, "--version", OLD)
    gateway.configure(device_class("panel", rack.match), scan_interval="100ms")
    gateway.start()
    for version in (NEW, WORSE):
        gateway.drop("panel", version, image(version))
        gateway.daemon.until(lambda: running(gateway, version) == 3, f"all running {version}")  # noqa: B023
    said = do(gateway, "recall", "panel", "--reason", "hums at night")
    assert said.endswith("3 run it, and what kept well before goes back to that")
    gateway.daemon.until(lambda: running(gateway, NEW) == 3, "all that went back")
    why = do(gateway, "why", gateway.id("panel-0001"))
    assert f"Called back by {getpass.getuser()}: hums at night" in why
