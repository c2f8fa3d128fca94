"""`firmwarden simulate dfu` and `image-dfu` as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import bincopy  # a different HEX library
import pytest
from click.testing import CliRunner

from firmwarden.images import dfu_suffix
from firmwarden.images.dfuse_file import DfuseFile
from firmwarden.simulate.command import simulate
from firmwarden.simulate.dfu.kinds import Kind, make_update
from firmwarden.simulate.dfu.parts import FLASH_BASE, PARTS

if TYPE_CHECKING:
    from pathlib import Path

L476 = PARTS["stm32l476"]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(simulate, arguments)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "say --attach, --tcp [HOST]:PORT or both"),
        (("--tcp", "localhost"), "'localhost' is not [HOST]:PORT"),
        (("--tcp", ":0", "--fault", "explode"), "there is no 'explode'"),
        (("--tcp", ":0", "--fault", "2:stall@dnload=0"), "--fault for device 2, which is not there"),
        (("--tcp", ":0", "--option", "BFB2"), "'BFB2' is not NAME=VALUE"),
        (("--tcp", ":0", "--option", "BFB=1"), "no option bytes ['BFB']"),
        (("--tcp", ":0", "--version", "1", "--size", "900000"), "do not fit into a bank of stm32l476"),
        (("--tcp", ":0", "--part", "avr"), "'avr' is not one of 'stm32l476'"),
        (("--tcp", ":0", "--count", "2", "bus.toml"), "a file and options that describe devices"),
    ],
)
def test_wrong_usage_is_told(
    arguments: tuple[str, ...], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bus.toml").write_text('[[device]]\nname = "x"\nport = "1"\n')
    status, output = run("dfu", *arguments)
    assert status == 2
    assert complaint in output


def test_a_file_that_is_wrong_is_told(tmp_path: Path) -> None:
    file = tmp_path / "bus.toml"
    file.write_text('[[device]]\nname = "x"\nport = "1"\npartt = "y"\n')
    status, output = run("dfu", str(file), "--tcp", ":0")
    assert status == 1
    assert 'bus.toml:4: device[0].partt: unknown key; did you mean "part"?' in output


def test_the_help_explains_faults() -> None:
    status, output = run("dfu", "--help")
    assert status == 0
    assert "power@program=4000,back=1" in output


def image(tmp_path: Path, *arguments: str) -> bytes:
    file = tmp_path / "new.img"
    assert run("image-dfu", "--version", "2.0.0", *arguments, str(file)) == (0, "")
    return file.read_bytes()


def test_a_raw_image_is_what_the_rom_takes(tmp_path: Path) -> None:
    (segment,) = make_update(L476, Kind.ROM, "2.0.0", size=16_384)
    assert image(tmp_path) == segment.data
    assert image(tmp_path, "--enters-by", "invalidate") != segment.data
    assert image(tmp_path, "--seed", "1") != segment.data


def test_a_hex_file_has_the_addresses(tmp_path: Path) -> None:
    text = image(tmp_path, "--format", "hex", "--size", "131072", "--kind", "resident-loader").decode()
    head, body = make_update(L476, Kind.RESIDENT_LOADER, "2.0.0", size=131_072)
    read = bincopy.BinFile()
    read.add_ihex(text)
    assert [(segment.address, bytes(segment.data)) for segment in read.segments] == [
        (head.address, head.data),
        (body.address, body.data),
    ]
    assert head.address > FLASH_BASE


def test_a_dfuse_file_is_for_the_rom(tmp_path: Path) -> None:
    read = DfuseFile.decode(image(tmp_path, "--format", "dfuse"))
    assert read.memory(0) == make_update(L476, Kind.ROM, "2.0.0", size=16_384)
    assert (read.suffix.vendor, read.suffix.product) == (0x0483, 0xDF11)


def test_a_dfu_file_is_for_the_loader(tmp_path: Path) -> None:
    read = dfu_suffix.split(image(tmp_path, "--format", "dfu", "--kind", "dfu"))
    head, body = make_update(L476, Kind.DFU, "2.0.0", size=16_384)
    assert read.content == head.data.ljust(body.address - head.address, b"\xff") + body.data
    assert (read.suffix.vendor, read.suffix.product) == (0x1209, 0xDF02)


def test_an_image_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    assert run("image-dfu", "--version", "2.0.0", "--size", "9999999", str(tmp_path / "x"))[0] == 2
    status, output = run("image-dfu", "--version", "2.0.0", str(tmp_path / "nowhere" / "x"))
    assert (status, "cannot be written: No such file" in output) == (1, True)


@pytest.mark.slow
def test_it_obeys_its_input_and_ends_with_it(tmp_path: Path) -> None:
    bus = tmp_path / "bus.toml"
    bus.write_text('report = "report.json"\n[[device]]\nname = "x"\nport = "1"\nversion = "1.0.0"\n')
    command = [sys.executable, "-m", "firmwarden", "simulate", "dfu", str(bus), "--tcp", ":0"]
    events: list[dict[str, object]] = []

    with subprocess.Popen(
        [*command, "--stop-with-stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def until(kind: str) -> dict[str, object]:
            while not events or events[-1]["event"] != kind:
                events.append(json.loads(process.stdout.readline()))  # type: ignore[union-attr]
            return events[-1]

        assert until("ready")["devices"] == [{"name": "x", "bus_id": "1-1"}]
        until("present")
        process.stdin.write("unplug x\nplug x 3\nplug y\nfly\nplug x 0\n")
        process.stdin.flush()
        assert until("not-done")["why"] == "there is no device 'y'"
        events.clear()
        assert until("not-done")["why"] == "expected `unplug NAME` or `plug NAME [PORT]`"
        events.clear()
        assert until("not-done")["why"] == "'0' is no port"
        until("present")
        process.stdin.close()
        assert process.wait(10) == 0
    (told,) = json.loads((tmp_path / "report.json").read_text())["devices"]
    assert (told["mode"], told["appearances"], told["landings"]) == ("run-time", 2, {"application": 2})
