"""Updates wait for the right time in the running daemon, and go on by themselves when it comes."""

from __future__ import annotations

import getpass
import json
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from support.gateway import NEW, OLD, USUAL, device_class, image

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import Gateway, Rack

MAY_UPDATE = """\
import os, pathlib, sys
asked, answer = map(pathlib.Path, sys.argv[1:])
with asked.open("a") as file:
    file.write(" ".join(os.environ["FIRMWARDEN_" + name] for name in ("CLASS", "VERSION", "PORT")) + "\\n")
reason = answer.read_text()
print(reason)
sys.exit(reason != "go ahead")
"""


def start(gateway: Gateway, *more: str) -> Rack:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("panel", rack.match, *USUAL, *more), scan_interval="100ms")
    gateway.start()
    return rack


def do(gateway: Gateway, *arguments: object) -> str:
    """Run a command that succeeds; returns what it says on one line."""
    done = gateway.command(*arguments)
    assert done.returncode == 0, done
    return " ".join(done.stdout.split())


def waits(gateway: Gateway, kind: str, detail: str) -> None:
    """Wait until the panel waits for that, wherever one asks."""

    def told() -> bool:
        job = gateway.device("panel-0001")["job"]
        wait = job and job["wait"]
        return bool(wait) and wait["kind"] == kind and detail in wait["detail"]  # type: ignore[index]

    gateway.daemon.until(told, f"a job that waits for {detail}")
    for command in (("why", gateway.id("panel-0001")), ("devices",), ("plan",)):
        assert detail in do(gateway, *command), command
    assert f"1 waiting ({kind} 1)" in do(gateway, "status")


def test_a_file_of_a_workload_holds_its_class_until_it_goes(gateway: Gateway) -> None:
    busy = gateway.place / "busy"
    busy.write_text("a customer is paying\n")
    start(gateway, f'inhibit = "{busy}"')
    gateway.drop("panel", NEW, image())
    waits(gateway, "hold", f"its class is held by {getpass.getuser()} with {busy}: a customer is paying")
    gateway.daemon.wait_for("job-waiting", wait="hold")
    assert gateway.why("panel-0001")["device"]["job"]["wait"]["until"] is not None, "it may be forgotten"
    busy.unlink()
    gateway.runs("panel-0001", NEW)


def test_a_file_that_its_workload_forgot_ends_by_itself(gateway: Gateway) -> None:
    busy = gateway.place / "busy"
    busy.touch()
    start(gateway, f'inhibit = "{busy}"', 'inhibit_for = "4s"')
    gateway.drop("panel", NEW, image())
    waits(gateway, "hold", "no reason given")
    gateway.runs("panel-0001", NEW)
    assert busy.exists()


def test_a_condition_is_asked_until_it_says_yes(gateway: Gateway, tmp_path: Path) -> None:
    program, asked, answer = (tmp_path / name for name in ("may-update.py", "asked", "answer"))
    program.write_text(MAY_UPDATE)
    answer.write_text("the battery is at 12 %")
    argv = json.dumps([sys.executable, *map(str, (program, asked, answer))])
    rack = start(gateway, f'condition = {{ argv = {argv}, again = "200ms" }}')
    gateway.drop("panel", NEW, image())
    waits(gateway, "condition", "the condition of its class says no: the battery is at 12 %")
    unmet = gateway.daemon.wait_for("condition-unmet", device=gateway.id("panel-0001"))
    assert unmet["detail"].endswith("the battery is at 12 %")
    gateway.daemon.until(lambda: len(asked.read_text().splitlines()) >= 3, "a program that is asked again")
    assert rack.told()["panel-0001"]["opens"] == 0, "nobody came near the device"
    answer.write_text("go ahead")
    gateway.runs("panel-0001", NEW)
    assert set(asked.read_text().splitlines()) == {f"panel {NEW} {rack.addresses['panel-0001']}"}
    assert len(gateway.daemon.said("condition-unmet")) == 1, "the same no is told once"


def test_a_window_of_the_configuration_is_waited_for(gateway: Gateway) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1, hours=2)
    window = f"{tomorrow:%a %H}:00-24:00"
    rack = start(gateway, f'windows = ["{window}"]', 'time_zone = "UTC"')
    gateway.drop("panel", NEW, image())
    waits(gateway, "window", f"the next one opens on {tomorrow:%a %Y-%m-%d %H}:00 UTC")
    gateway.daemon.wait_for("job-waiting", wait="window")
    gateway.configure(
        device_class("panel", rack.match, *USUAL, 'windows = ["Mon-Sun 00:00-24:00"]'), scan_interval="100ms"
    )
    gateway.reload()
    gateway.runs("panel-0001", NEW)


def test_holds_of_several_owners_end_one_by_one(gateway: Gateway) -> None:
    start(gateway)
    panel = gateway.id("panel-0001")
    do(gateway, "hold", panel, "--reason", "calibration", "--owner", "test-bench", "--for", "3s")
    do(gateway, "hold", panel, "--reason", "on loan")
    gateway.drop("panel", NEW, image())
    waits(gateway, "hold", "held by test-bench: calibration")
    waits(gateway, "hold", f"held by {getpass.getuser()}: on loan")
    gateway.daemon.wait_for("hold-ended", owner="test-bench")
    do(gateway, "unhold", panel)
    gateway.runs("panel-0001", NEW)
    told = do(gateway, "history", panel)
    assert "calibration" in told
    assert "hold-ended" in told
