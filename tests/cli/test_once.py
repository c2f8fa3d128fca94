"""``update``, ``info`` and ``plan IMAGE``: how a device is named, and how what happens to it is told."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from firmwarden.app import once
from firmwarden.app.named_stream import StreamTarget
from firmwarden.app.named_usb import UsbTarget
from firmwarden.cli.target import parse_endpoint
from firmwarden.drivers.base import PlannedStep, Step
from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.errors import AttemptFailed, BadImage, PortHeld
from firmwarden.model import Cause, CauseCode, SerialAddress, TcpAddress
from support.memory_desk import LINK_LOST, WRONG_DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from click.testing import Result

    from firmwarden.app.named import Target

    Run = Callable[..., Result]
    Report = Callable[[dict[str, object]], None]


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "panel.img"
    path.write_bytes(b"image")
    return str(path)


class Updates:
    """Stands where the update would run: notes the order, tells these events, returns this status."""

    def __init__(self, status: int, *events: dict[str, object]) -> None:
        self.status = status
        self.events = events
        self.orders: list[once.UpdateOrder] = []

    def __call__(self, order: once.UpdateOrder, report: Report) -> int:
        self.orders.append(order)
        for event in self.events:
            report(event)
        return self.status


FAILED = {"event": "attempt-failed", "attempt": 1, "cause": "link-lost", "detail": "/dev/ttyACM3 vanished"}


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ("--serial /dev/ttyACM0", StreamTarget(SerialAddress(path="/dev/ttyACM0", baud=115_200))),
        ("--serial /dev/ttyACM0 --baud 57600", StreamTarget(SerialAddress(path="/dev/ttyACM0", baud=57_600))),
        ("--tcp panel.local:5559", StreamTarget(TcpAddress(host="panel.local", port=5559))),
        ("--tcp [::1]:5559 --driver mdfu", StreamTarget(TcpAddress(host="::1", port=5559))),
        ("--usb 1209:000A", UsbTarget(ids=(0x1209, 0x000A))),
        (
            "--usb 0483:df11@1-1.4,36A7,x --driver dfu",
            UsbTarget(ids=(0x0483, 0xDF11), topology="1-1.4", serial="36A7,x"),
        ),
        (
            (
                "--usb 1209:0001@3-2 --address 0x08004000 --part STM32F072RB --failsafe resident-loader "
                "--loader 1209:0002 --application 134234112"
            ),
            UsbTarget(
                ids=(0x1209, 1),
                topology="3-2",
                loader=(0x1209, 2),
                part="STM32F072RB",
                failsafe=Failsafe.RESIDENT_LOADER,
                application=0x0800_4000,
                address=0x0800_4000,
            ),
        ),
    ],
)
def test_the_device_is_named_by_port_or_ids(
    run_alone: Run, image: str, monkeypatch: pytest.MonkeyPatch, options: str, target: Target
) -> None:
    updates = Updates(0, {"event": "update-finished", "outcome": "succeeded"})
    monkeypatch.setattr(once, "update_once", updates)
    assert run_alone("update", image, *options.split()).exit_code == 0
    assert [str(order.image) for order in updates.orders] == [image]
    assert [order.target for order in updates.orders] == [target]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("", "Name the device"),
        ("--serial a --tcp b:1", "Name one device"),
        ("--tcp b:1 --baud 9600", "--baud belongs to --serial"),
        ("--usb 0483:df11 --tcp b:1", "Name one device"),
        ("--usb 0483", "expected VID:PID[@TOPOLOGY][,SERIAL], such as 0483:df11@1-1.4"),
        ("--usb 0483:df11@hub", "expected VID:PID"),
        ("--usb 0483:df11@1-1.", "expected VID:PID"),
        ("--usb 0483:df11,", "expected VID:PID"),
        ("--usb 0483:df11 --driver mdfu", "MDFU goes over --serial or --tcp"),
        ("--usb 0483:df11 --baud 9600", "--baud belongs to --serial"),
        ("--serial a --driver dfu", "DFU goes over USB"),
        ("--driver dfu", "DFU goes over USB"),
        ("--serial a --address 0x8000", "--address belongs to --usb"),
        ("--tcp b:1 --failsafe none", "--failsafe belongs to --usb"),
        ("--usb 0483:df11 --address 8g", "expected an address, such as 0x08000000"),
        ("--usb 0483:df11 --address 08000000", "'08000000': hexadecimal begins with 0x: 0x08000000."),
        ("--usb 0483:df11 --address 00", "hexadecimal begins with 0x: 0x00."),
        ("--usb 0483:df11 --address 0x100000000", "an address has 32 bits"),
        ("--usb 0483:df11 --address -1", "expected an address"),
        ("--usb 0483:df11 --loader df11", "expected vendor and product in hexadecimal"),
        ("--usb 0483:df11 --part STM32L999", "--part: no facts are known of STM32L999"),
        ("--usb 0483:df11 --failsafe bfb2", "--part: is missing"),
        ("--usb 0483:df11 --part STM32L476RG --failsafe empty-check", "has no empty check"),
        ("--usb 0483:df11 --failsafe bfb3", "is not one of"),
        ("--usb 0483:df11 --application 0", "--application belongs to --failsafe resident-loader"),
        ("--tcp b", "HOST:PORT"),
    ],
)
@pytest.mark.parametrize("command", ["update", "info", "plan"])
def test_inv8_wrong_usage_is_2_and_nothing_runs(
    run_alone: Run, image: str, monkeypatch: pytest.MonkeyPatch, command: str, options: str, says: str
) -> None:
    def runs(*_: object) -> int:
        raise AssertionError(options)

    for name in ("update_once", "info_once", "plan_once"):
        monkeypatch.setattr(once, name, runs)
    result = run_alone(command, *([] if command == "info" else [image]), *options.split())
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_an_image_that_is_not_there_is_2(run_alone: Run, tmp_path: Path) -> None:
    result = run_alone("update", str(tmp_path / "absent.img"), "--serial", "/dev/ttyACM0")
    assert result.exit_code == 2
    assert "does not exist" in result.stderr


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:1", TcpAddress(host="localhost", port=1)),
        ("10.0.0.1:65535", TcpAddress(host="10.0.0.1", port=65_535)),
        ("[fe80::1%eth0]:5559", TcpAddress(host="fe80::1%eth0", port=5559)),
    ],
)
def test_endpoints(text: str, address: TcpAddress) -> None:
    assert parse_endpoint(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "host:0x10",
        "host:+1",
        "host:1 ",
        "::1:5559",
        f"h:{'9' * 5000}",
    ],
)
def test_inv8_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT|from 1 to 65535"):
        parse_endpoint(text)


def test_an_update_is_told_while_it_happens(
    run_alone: Run, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = Updates(
        0,
        {"event": "device-appeared", "device": "x"},
        {"event": "attempt-started", "attempt": 1, "number": 1},
        {"event": "job-waiting", "wait": "port-held", "detail": "/dev/ttyACM0 is held by minicom (pid 7)"},
        {"event": "attempt-started", "attempt": 2, "number": 1},
        {"event": "job-waiting", "wait": "port-held", "detail": "/dev/ttyACM0 is held by minicom (pid 7)"},
        {"event": "attempt-started", "attempt": 3, "number": 1},
        {"event": "progress", "step": "write", "done": 50, "total": 100},
        {**FAILED, "retry_in_s": 2.1},
        {"event": "job-waiting", "wait": "back-off", "detail": "the last attempt failed in transport"},
        {"event": "attempt-started", "attempt": 4, "number": 2},
        {"event": "progress", "step": "write", "done": 50, "total": 100},
        {"event": "update-finished", "outcome": "succeeded", "evidence": "it acknowledged the end"},
    )
    monkeypatch.setattr(once, "update_once", updates)
    assert run_alone("update", image, "--serial", "/dev/ttyACM0").stdout.splitlines() == [
        "Attempt 1",
        "Waiting: /dev/ttyACM0 is held by minicom (pid 7)",
        "write 50 %",
        "Failed: /dev/ttyACM3 vanished (link-lost); again in 2 seconds",
        "Attempt 2",
        "write 50 %",
        "Updated: it acknowledged the end.",
    ]


@pytest.mark.parametrize(
    ("status", "end", "says"),
    [
        (0, {"outcome": "succeeded"}, "Updated."),
        (
            1,
            {"outcome": "failed", "cause": {**WRONG_DEVICE, "scope": "pair"}},
            "Refused by the device. The device says",
        ),
        (
            3,
            {"outcome": "failed", "cause": {**LINK_LOST, "scope": None}},
            "Not updated. The port or the connection",
        ),
        (
            4,
            {"outcome": "unknown", "evidence": "image valid, END unanswered"},
            "The outcome is not known. Image valid, END unanswered. See what",
        ),
    ],
)
def test_the_end_of_an_update(
    run_alone: Run,
    image: str,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    end: dict[str, object],
    says: str,
) -> None:
    monkeypatch.setattr(once, "update_once", Updates(status, {"event": "update-finished", **end}))
    result = run_alone("update", image, "--serial", "/dev/ttyACM0")
    assert result.exit_code == status
    assert " ".join(result.stdout.split()).startswith(says)
    result = run_alone("update", image, "--serial", "/dev/ttyACM0", "--json")
    assert result.exit_code == status
    assert json.loads(result.stdout.splitlines()[-1]) == {"event": "update-finished", **end}


@pytest.mark.parametrize(
    ("last", "complete", "says"),
    [
        ("no-answer", None, "Perhaps its application runs"),
        ("no-answer", False, "The device holds no complete image now"),
        ("link-lost", False, "The device holds no complete image now"),
        ("link-lost", None, ""),
    ],
)
def test_what_a_failure_leaves_or_may_come_from(
    run_alone: Run, image: str, monkeypatch: pytest.MonkeyPatch, last: str, complete: bool | None, says: str
) -> None:
    end = {"event": "update-finished", "outcome": "failed", "complete": complete}
    updates = Updates(3, {**FAILED, "cause": last}, {**end, "cause": {**LINK_LOST, "scope": None}})
    monkeypatch.setattr(once, "update_once", updates)
    told = " ".join(run_alone("update", image, "--serial", "/dev/ttyACM0").stdout.split())
    for advice in ("Perhaps its application runs", "The device holds no complete image now"):
        assert (advice in told) is (advice == says)


def test_a_port_of_no_use_is_refused_at_once(run_alone: Run, image: str, tmp_path: Path) -> None:
    """Trying it again for a minute would only look like trouble of the transport."""
    result = run_alone("update", image, "--serial", image)
    assert result.exit_code == 2
    assert "panel.img is no serial port" in " ".join(result.stdout.split())
    result = run_alone("info", "--serial", str(tmp_path))
    assert result.exit_code == 1
    assert "is no serial port" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (BadImage("block 3 at offset 1024 is cut short"), "block 3 at offset 1024 is cut short"),
        (KeyboardInterrupt(), "Interrupted before anything was sent to the device."),
    ],
)
def test_what_ends_before_it_began_is_2(
    run_alone: Run, image: str, monkeypatch: pytest.MonkeyPatch, error: BaseException, detail: str
) -> None:
    def fail(_order: once.UpdateOrder, _report: Report) -> int:
        raise error

    monkeypatch.setattr(once, "update_once", fail)
    result = run_alone("update", image, "--tcp", "localhost:5559")
    assert result.exit_code == 2
    assert " ".join(result.stdout.split()).endswith(f"{detail.rstrip('.')}.".capitalize())
    assert "Nothing was sent to the device." in result.stdout
    assert json.loads(run_alone("update", image, "--tcp", "localhost:5559", "--json").stdout) == {
        "event": "update-finished",
        "outcome": "not-started",
        "cause": {"code": "not-started", "scope": None, "detail": detail},
    }


def test_info_is_a_table_or_an_object(run_alone: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(_target: Target) -> Mapping[str, str | int]:
        return {"protocol version": "1.0.0", "buffer size": 512}

    monkeypatch.setattr(once, "info_once", answer)
    assert run_alone("info", "--serial", "/dev/ttyACM0").stdout.splitlines() == [
        "FIELD             VALUE",
        "protocol version  1.0.0",
        "buffer size       512",
    ]
    assert json.loads(run_alone("info", "--serial", "/dev/ttyACM0", "--json").stdout) == {
        "protocol version": "1.0.0",
        "buffer size": 512,
    }


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (PortHeld("/dev/ttyACM0", "ModemManager (812)"), "/dev/ttyACM0 is held by ModemManager (812)"),
        (
            AttemptFailed(
                Cause(code=CauseCode.CLIENT_INFO_MALFORMED, detail="unknown length", raw=b"\x01\x02")
            ),
            "(client-info-malformed). Unknown length. It answered 01 02.",
        ),
    ],
)
def test_info_says_why_there_is_none(
    run_alone: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def fail(_target: Target) -> Mapping[str, str | int]:
        raise error

    monkeypatch.setattr(once, "info_once", fail)
    result = run_alone("info", "--serial", "/dev/ttyACM0")
    assert result.exit_code == 1
    assert says in " ".join(result.stderr.split())
    assert json.loads(run_alone("info", "--serial", "/dev/ttyACM0", "--json").stdout)["type"] == "failed"


def test_the_plan_for_an_image_tells_each_step(
    run_alone: Run, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(order: once.UpdateOrder) -> once.Plan:
        steps = (
            PlannedStep(step=Step.PROBE, does="Asks what it is.", if_interrupted="nothing changed"),
            PlannedStep(
                step=Step.WRITE, does=f"Writes {order.image.name}.", if_interrupted="no complete image"
            ),
        )
        return once.Plan(steps, "It is taken for raw.")

    monkeypatch.setattr(once, "plan_once", answer)
    assert run_alone("plan", image, "--serial", "/dev/ttyACM0").stdout.splitlines() == [
        "It is taken for raw.",
        "probe    Asks what it is.",
        "         If interrupted: nothing changed",
        "write    Writes panel.img.",
        "         If interrupted: no complete image",
    ]
    lines = run_alone("plan", image, "--serial", "/dev/ttyACM0", "--json").stdout.splitlines()
    assert [json.loads(line)["step"] for line in lines] == ["probe", "write"]


def test_a_plan_needs_both_image_and_device_or_neither(run_alone: Run) -> None:
    result = run_alone("plan", "--serial", "/dev/ttyACM0")
    assert result.exit_code == 2
    assert "Which image?" in result.stderr
