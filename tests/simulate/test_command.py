"""`firmwarden simulate` as a user runs it."""

from __future__ import annotations

import signal
import socket
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from firmwarden.simulate.command import simulate
from support.hand import update_file
from support.simulator import read_report, simulator_process

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(simulate, arguments)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "say either --dir DIR or --tcp [HOST]:PORT"),
        (("--dir", "d", "--tcp", ":0"), "say either --dir DIR or --tcp [HOST]:PORT"),
        (("--tcp", "localhost"), "'localhost' is not [HOST]:PORT"),
        (("--tcp", ":70000"), "':70000' is not [HOST]:PORT"),
        (("--dir", "d", "--fault", "explode"), "there is no 'explode'"),
        (("--dir", "d", "--fault", "2:wedge"), "--fault for serial number 2, which no device has"),
        (("--dir", "d", "--count", "2", "--name", "x"), "a file name of its own"),
        (("--dir", "d", "--name", "a/b"), "a file name of its own"),
        (("--dir", "d", "--name", "{port}"), "port"),
        (("--dir", "d", "--profile", "pic8", "--buffer", "8"), "--buffer is for the generic profile"),
        (("--dir", "d", "--profile", "pic8", "--version", "1", "--image-size", "99999"), "pic8 has room"),
        (("--dir", "d", "--version-query", "\\x"), "is not ASCII with escapes"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], complaint: str) -> None:
    status, output = run("mdfu", *arguments)
    assert status == 2
    assert complaint in " ".join(output.split())


def test_the_help_explains_faults() -> None:
    status, output = run("mdfu", "--help")
    assert status == 0
    assert "  abort@chunk=3,cause=erase-error\n" in output


def test_an_image_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    status, output = run("image", "--version", "2.0.0", str(tmp_path / "nowhere" / "x.img"))
    assert status == 1
    assert "x.img cannot be written: No such file or directory" in " ".join(output.split())


def test_image_writes_what_devices_take(tmp_path: Path) -> None:
    file = tmp_path / "new.img"
    assert run("image", "--profile", "pic8", "--version", "2.0.0", "--size", "4000", str(file)) == (0, "")
    assert file.read_bytes() == update_file("pic8")
    assert run("image", "--version", "2.0.0", "--size", "9999999", str(file))[0] == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_a_signal_and_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    directory, report = tmp_path / "by-id", tmp_path / "report.json"
    with simulator_process(
        "--dir", str(directory), "--count", "3", "--first", "7", "--version", "1.0.0",
        "--serial-format", "{:02X}", "--name", "panel-{serial}", "--image-size", "5000",
        "--report", str(report), "--fault", "8:mute", "--fault", "wedge@rx=100000",
    ) as simulator:  # fmt: skip
        assert simulator.addresses == [str(directory / name) for name in ("panel-07", "panel-08", "panel-09")]
        simulator.process.send_signal(number)
        assert simulator.process.wait(10) == 0
    assert not directory.exists()
    devices = read_report(report)
    assert [device["name"] for device in devices] == ["panel-07", "panel-08", "panel-09"]
    assert [sorted(device["faults"]) for device in devices] == [
        ["wedge@rx=100000"],
        ["mute", "wedge@rx=100000"],
        ["wedge@rx=100000"],
    ]


def test_devices_boot_what_was_installed(tmp_path: Path) -> None:
    with simulator_process("--dir", str(tmp_path), "--version", "1.0.0", "--image-size", "4000") as simulator:
        boot = simulator.until("boot")
    assert boot["device"] == "usb-Acme_Panel_0001-if00"
    assert boot["sha256"] == sha256(update_file(version="1.0.0")).hexdigest()


def test_it_ends_with_its_parent_when_asked_to(tmp_path: Path) -> None:
    with simulator_process("--dir", str(tmp_path), "--stop-with-stdin") as simulator:
        assert simulator.process.stdin is not None
        simulator.process.stdin.close()
        assert simulator.process.wait(10) == 0


def test_a_reader_that_does_not_read_stops_nobody() -> None:
    fault = "noise@every=0.001,bytes=1"
    with simulator_process(
        "--tcp", ":0", "--fault", "reboot@step=get-client-info,times=always", "--fault", fault
    ) as simulator:
        host, _, port = simulator.addresses[0].rpartition(":")
        assert host == "127.0.0.1"
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            # Every reset is told; a pipe holds some 600 of them.
            for _ in range(10):
                connection.sendall(bytes.fromhex("56 80 01 7f fe 9e"))
            assert connection.recv(1)
        simulator.process.send_signal(signal.SIGTERM)
        assert simulator.process.wait(10) == 0


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        status, output = run("mdfu", "--tcp", f":{server.getsockname()[1]}")
    assert status == 1
    assert "ddress already in use" in output
