"""``firmwarden update`` without a daemon: what it says and its exit status, of which scripts make use."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
import serial

from firmwarden.exit_status import ExitStatus
from support.gateway import LOADER, NEW, image

if TYPE_CHECKING:
    from pathlib import Path

    from support.gateway import Gateway, Rack
    from support.processes import Process, Record

    Minutes = dict[str, tuple[Process, Rack | None]]


@pytest.fixture
def new(tmp_path: Path) -> Path:
    path = tmp_path / "new.img"
    path.write_bytes(image())
    return path


def last(process: Process) -> Record:
    record = list(process.records())[-1]
    assert record["event"] == "update-finished"
    return record


@pytest.mark.parametrize("tcp", [False, True], ids=["pty", "tcp"])
def test_success(gateway: Gateway, new: Path, tcp: bool) -> None:
    rack = gateway.rack("panel", *LOADER, "--paced", 460_800, tcp=tcp)
    option = ("--tcp" if tcp else "--serial", rack.addresses["panel-0001"])
    update = gateway.begin("update", new, *option, "--json")
    assert update.wait() == ExitStatus.SUCCEEDED
    said = [record["event"] for record in update.records()]
    assert said.count("attempt-started") == 1
    assert "progress" in said
    assert (last(update)["outcome"], last(update)["complete"]) == ("succeeded", True)
    rack.wait_for("boot", "panel-0001", version=NEW, complete=True)


def test_in_words(gateway: Gateway, new: Path) -> None:
    rack = gateway.rack("panel", *LOADER, "--fault", "cut@rx=6000,back=0.3")
    update = gateway.begin("update", new, "--serial", rack.addresses["panel-0001"])
    assert update.wait() == ExitStatus.SUCCEEDED
    text = "\n".join(update.lines)
    assert "(link-lost); again in" in text
    assert "Updated: the device called the image valid and acknowledged END_TRANSFER." in text
    rack.wait_for("boot", "panel-0001", version=NEW, complete=True)


@pytest.mark.parametrize("cause", ["write-error", "invalid-file", "none"])
def test_refused_by_the_device(gateway: Gateway, new: Path, cause: str) -> None:
    rack = gateway.rack("panel", *LOADER, "--fault", f"abort@chunk=4,cause={cause}")
    update = gateway.begin("update", new, "--serial", rack.addresses["panel-0001"], "--json")
    assert update.wait() == ExitStatus.REFUSED
    end = last(update)
    assert end["outcome"] == "failed"
    assert end["cause"]["code"] == ("abort-without-cause" if cause == "none" else cause)
    assert end["cause"]["scope"] == ("device" if cause == "write-error" else "pair")
    assert (end["cause"]["chunk"], end["cause"]["offset"]) == (4, 4 * 512)
    assert end["complete"] is False
    device = rack.report()["panel-0001"]
    assert (device["erase_starts"], device["ended_partial"]) == (1, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--serial", "/dev/null", "--tcp", "127.0.0.1:1"),
        ("--tcp", "nowhere"),
        ("--serial", "/dev/null", "--baud", "fast"),
    ],
    ids=["no device", "two devices", "no address", "no rate"],
)
def test_usage(gateway: Gateway, new: Path, arguments: tuple[str, ...]) -> None:
    assert gateway.command("update", new, *arguments).returncode == ExitStatus.NOT_STARTED


def test_an_image_that_cannot_be_read_or_is_empty(gateway: Gateway, tmp_path: Path) -> None:
    rack = gateway.rack("panel", *LOADER)
    target = ("--serial", rack.addresses["panel-0001"], "--json")
    assert gateway.command("update", tmp_path / "nowhere.img", *target).returncode == ExitStatus.NOT_STARTED
    (tmp_path / "empty.img").touch()
    done = gateway.command("update", tmp_path / "empty.img", *target)
    assert done.returncode == ExitStatus.NOT_STARTED
    end = json.loads(done.stdout)
    assert (end["outcome"], "is empty" in end["cause"]["detail"]) == ("not-started", True)
    assert rack.report()["panel-0001"]["opens"] == 0


def test_inv1_interrupted_in_the_middle(gateway: Gateway, new: Path) -> None:
    rack = gateway.rack("panel", *LOADER, "--paced", 115_200)
    update = gateway.begin("update", new, "--serial", rack.addresses["panel-0001"], "--json")
    rack.wait_for("start", "panel-0001")
    assert update.stop(signal.SIGINT) == ExitStatus.INTERRUPTED
    end = last(update)
    assert (end["outcome"], end["cause"]["code"]) == ("interrupted", "stopping")
    assert "holds no complete image, and needs another update" in end["cause"]["detail"]
    rack.process.until(lambda: not rack.told()["panel-0001"]["complete"], "a partial image")
    # And another update brings it back.
    assert gateway.command("update", new, "--serial", rack.addresses["panel-0001"]).returncode == 0
    rack.wait_for("boot", "panel-0001", version=NEW, complete=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_inv2_interrupted_after_an_attempt_that_erased(
    gateway: Gateway, new: Path, number: signal.Signals
) -> None:
    """The attempt that is broken off has changed nothing, but the one before has."""
    faults = ("--fault", "cut@chunk=5,back=0.1", "--fault", "mute@command=8")
    rack = gateway.rack("panel", *LOADER, *faults)
    update = gateway.begin("update", new, "--serial", rack.addresses["panel-0001"], "--json")
    update.wait_for("attempt-started", number=2)
    update.wait_for("progress", step="probe", attempt=2)
    assert update.stop(number) == ExitStatus.INTERRUPTED
    end = last(update)
    assert (end["outcome"], end["complete"]) == ("interrupted", False)
    assert "holds no complete image" in end["cause"]["detail"]
    assert rack.report()["panel-0001"]["complete"] is False


def test_a_port_that_somebody_has(gateway: Gateway, new: Path) -> None:
    rack = gateway.rack("panel", *LOADER)
    port = rack.addresses["panel-0001"]
    with serial.Serial(port, exclusive=True):
        update = gateway.begin("update", new, "--serial", port)
        update.until(lambda: f"Waiting: {port} is held by " in "\n".join(update.lines), "who has the port")
    assert update.wait() == ExitStatus.SUCCEEDED
    assert [line for line in update.lines if line.startswith("Attempt")] == ["Attempt 1"]


def test_plan_says_what_would_happen_and_sends_nothing(gateway: Gateway, new: Path) -> None:
    rack = gateway.rack("panel", *LOADER)
    done = gateway.command("plan", new, "--serial", rack.addresses["panel-0001"], "--json")
    assert done.returncode == 0
    steps = [json.loads(line)["step"] for line in done.stdout.splitlines()]
    assert steps == ["enter", "probe", "write", "verify", "leave", "confirm"]
    assert rack.report()["panel-0001"]["opens"] == 0


def test_info_of_a_loader_and_of_nobody(gateway: Gateway) -> None:
    rack = gateway.rack("panel", *LOADER, "--profile", "pic8")
    done = gateway.command("info", "--serial", rack.addresses["panel-0001"], "--json")
    assert json.loads(done.stdout)["buffer-size"] == 271
    missing = gateway.command("info", "--serial", rack.ports / "nobody")
    assert missing.returncode == 1
    assert "could not be opened" in missing.stderr
    report = rack.report()["panel-0001"]
    assert (report["commands"], report["opens"]) == ({"get-client-info": 1}, 1)


@pytest.mark.timeout(120)
def test_transport_trouble_that_does_not_end(minutes: Minutes) -> None:
    update, _ = minutes["exhausted"]
    assert update.wait(90) == ExitStatus.EXHAUSTED
    end = last(update)
    assert (end["outcome"], end["cause"]["code"], end["cause"]["scope"]) == (
        "failed",
        "transport-exhausted",
        None,
    )
    assert "Connection refused" in end["cause"]["detail"]
    assert len(update.said("attempt-started")) > 3


@pytest.mark.timeout(120)
def test_inv2_an_outcome_that_cannot_be_known(minutes: Minutes) -> None:
    update, rack = minutes["unknown"]
    assert rack is not None
    assert update.wait(90) == ExitStatus.UNKNOWN
    end = last(update)
    assert (end["outcome"], end["cause"]["code"]) == ("unknown", "end-unanswered")
    assert "image valid, loader left" in end["cause"]["detail"]
    # It runs, but does not say so.
    rack.wait_for("boot", "quiet-0001", version=NEW, complete=True)
