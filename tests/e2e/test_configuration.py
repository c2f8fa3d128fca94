"""Configurations as a user mends them: refused whole with every problem, checked, read anew while the daemon runs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from support.gateway import NEW, OLD, device_class, image

if TYPE_CHECKING:
    from support.gateway import Gateway

BAD = """\
[firmwarden]
firmware_dir = "relative"
socket = "{socket}"
parallel = 0
speed = 9600

[[device]]
name = "Front Panel"
driver = "mdfu"
match = {{ path = "/dev/*/ttyACM0" }}

[[device]]
name = "io-module"
driver = "smoke-signals"
match = {{ tcp = ["nowhere"] }}
retry = {{ attempts = "many" }}
"""
PROBLEMS = {
    2: "firmwarden.firmware_dir",
    4: "firmwarden.parallel",
    5: "firmwarden.speed",
    8: "name",
    10: "match.path",
    14: "driver",
    15: "match.tcp",
    16: "retry.attempts",
}
"""The line of each mistake, and its key."""


def write_bad(gateway: Gateway) -> None:
    gateway.config.write_text(BAD.format(socket=gateway.socket))


def assert_every_problem_is_told(text: str, gateway: Gateway) -> None:
    told = {
        int(found[1]): found[2]
        for found in re.finditer(rf"^{re.escape(str(gateway.config))}:(\d+): (.*)$", text, re.MULTILINE)
    }
    assert told.keys() == PROBLEMS.keys(), text
    for line, key in PROBLEMS.items():
        assert key in told[line]
        assert "expected" in told[line] or "unknown" in told[line]


def test_the_daemon_does_not_start_with_mistakes(gateway: Gateway) -> None:
    write_bad(gateway)
    assert gateway.launch().wait() == 2
    assert_every_problem_is_told("\n".join(gateway.daemon.lines), gateway)
    assert not gateway.socket.exists()
    assert not gateway.state.exists()


def test_check_tells_the_same(gateway: Gateway) -> None:
    write_bad(gateway)
    done = gateway.command("check", "--config", gateway.config)
    assert done.returncode == 1
    assert_every_problem_is_told(done.stdout, gateway)
    assert "refused whole, for these 8 problems" in done.stderr


def test_check_tells_what_a_good_one_means(gateway: Gateway) -> None:
    gateway.configure(
        device_class("panel", 'path = "/dev/serial/by-id/usb-Acme_Panel_*"'),
        device_class("io-module", 'tcp = ["127.0.0.1:4001"]'),
    )
    done = gateway.command("check", "--config", gateway.config)
    assert done.returncode == 0
    assert "The configuration is good." in done.stdout
    assert re.search(
        r"^panel +mdfu +port +path /dev/serial/by-id/usb-Acme_Panel_\*$", done.stdout, re.MULTILINE
    )
    assert re.search(r"^io-module +mdfu +port +tcp 127\.0\.0\.1:4001$", done.stdout, re.MULTILINE)


def test_a_reload_takes_a_class_in(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure()
    gateway.drop("panel", NEW, image())
    daemon = gateway.start()
    assert daemon.wait_for("release-refused")["reason"] == '"panel" is no device class of the configuration'
    assert gateway.devices() == []

    gateway.configure(device_class("panel", rack.match))
    assert gateway.reload()["classes"] == 1
    daemon.wait_for("update-succeeded")
    assert gateway.device("panel-0001")["running_version"] == NEW


def test_inv8_a_bad_file_changes_nothing_and_is_reported(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD)
    gateway.configure(device_class("panel", rack.match))
    daemon = gateway.start()

    good = gateway.config.read_text()
    gateway.config.write_text(good.replace("[[device]]", "[[device]]\ncolour = 1\nbaud = true"))
    problems = gateway.reload("config-refused")["problems"]
    assert [re.sub(r"^\S+:(\d+): ", r"\1 ", problem).split(":")[0] for problem in problems] == [
        "7 device[0].colour",
        "8 device[0].baud",
    ]
    assert len(gateway.client.get("status")["problems"]) == 1
    assert "colour" in gateway.command("status").stdout
    gateway.drop("panel", NEW, image())
    daemon.wait_for("update-succeeded")

    gateway.config.write_text(good)
    gateway.reload()
    assert gateway.client.get("status")["problems"] == []


def test_a_change_that_needs_a_restart_is_refused_and_said(gateway: Gateway) -> None:
    gateway.configure(parallel=3)
    gateway.start()
    gateway.configure(parallel=4, state_dir=str(gateway.place / "elsewhere"))
    (problem,) = gateway.reload("config-refused")["problems"]
    assert "a restart is needed for a change of state_dir" in problem
    assert not (gateway.place / "elsewhere").exists()


def test_a_class_that_leaves_while_its_device_is_written(gateway: Gateway) -> None:
    rack = gateway.rack("panel", "--version", OLD, "--paced", 115_200)
    gateway.configure(device_class("panel", rack.match))
    gateway.drop("panel", NEW, image())
    daemon = gateway.start()
    rack.wait_for("start", "panel-0001")
    gateway.configure()
    gateway.reload()
    # What has begun is not broken off.
    daemon.wait_for("update-succeeded")
    assert gateway.devices()[0]["running_version"] == NEW
    gateway.configure(device_class("panel", rack.match))
    said = len(daemon.lines)
    gateway.reload()
    daemon.wait_for("release-accepted", after=said)
    assert [job["state"] for job in gateway.client.get("jobs")["jobs"]] == ["succeeded"]
    assert rack.report()["panel-0001"]["erase_starts"] == 1


def test_a_second_daemon_leaves_the_first_alone(gateway: Gateway) -> None:
    gateway.configure()
    first = gateway.start()
    assert gateway.launch().wait() == 1
    assert len(gateway.daemon.lines) >= 1
    assert any("firmwarden: " in line for line in gateway.daemon.lines)
    assert first.running
    assert json.loads(gateway.command("status", "--json").stdout)["state"] == "ready"
