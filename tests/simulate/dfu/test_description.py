"""Simulated devices as a user describes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from firmwarden.simulate.dfu.chip import Landing
from firmwarden.simulate.dfu.description import DescribedBus, read_bus
from firmwarden.simulate.dfu.kinds import Kind
from firmwarden.simulate.dfu.parts import PARTS
from firmwarden.toml.document import BadToml
from support.dfu_simulated import Bench

if TYPE_CHECKING:
    from pathlib import Path

EVERYTHING = """\
report = "devices.json"

[[device]]
name = "meter-0001"
port = "1"
part = "stm32l432"
kind = "rom"
version = "1.0.0"
size = 4096
serial = "M1"
rom_serial = "TWIN"
options = { nSWBOOT0 = 0 }
self_powered = true
crystal = false
flash_time = 0.5
faults = ["power@dnload=40,back=1", "stall@getstatus=3"]
seed = 7

[[device]]
name = "meter-0002"
port = "2.4"
"""


def read(tmp_path: Path, text: str) -> DescribedBus:
    file = tmp_path / "bus.toml"
    file.write_text(text)
    return read_bus(file)


def test_everything_can_be_said(tmp_path: Path) -> None:
    bus = read(tmp_path, EVERYTHING)
    assert bus.report == tmp_path / "devices.json"
    one, two = bus.device
    what = one.settings()
    assert (one.port, two.port) == ((1,), (2, 4))
    assert what.part is PARTS["stm32l432"]
    assert (what.name, what.serial, what.product_serial) == ("meter-0001", "TWIN", "M1")
    assert what.factory == {"nSWBOOT0": 0}
    assert (what.self_powered, what.crystal, what.flash_time, what.seed) == (True, False, 0.5, 7)
    assert [fault.text for fault in what.faults] == ["power@dnload=40,back=1", "stall@getstatus=3"]
    other = two.settings()
    assert (other.part.name, other.flash_time, other.faults) == ("stm32l476", 1.0, ())


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("part", PARTS)
def test_every_kind_runs_what_is_installed_on_every_part(kind: Kind, part: str, tmp_path: Path) -> None:
    table = f'[[device]]\nname = "x"\nport = "1"\npart = "{part}"\nkind = "{kind}"\n'
    table += 'version = "1.0.0"\nsize = 8192\n'
    boot = Bench(read(tmp_path, table).device[0].settings()).device.boot
    assert boot is not None
    assert boot.landing is Landing.APPLICATION
    assert boot.firmware is not None
    assert boot.firmware.run_time.name == "Simulated application 1.0.0"


@pytest.mark.parametrize("kind", [Kind.RESIDENT_LOADER, Kind.DFU])
def test_without_a_version_a_loader_waits(kind: Kind, tmp_path: Path) -> None:
    table = f'[[device]]\nname = "x"\nport = "1"\nkind = "{kind}"\nserial = "S"\n'
    device = Bench(read(tmp_path, table).device[0].settings()).device
    assert device.boot is not None
    assert device.boot.landing is Landing.LOADER
    assert device.identity is not None
    assert (device.identity.product, device.identity.serial) == (0xDF02, "S")


def test_the_rom_does_not_show_the_serial_number_of_the_product(tmp_path: Path) -> None:
    table = '[[device]]\nname = "x"\nport = "1"\noptions = { BFB2 = 1 }\nserial = "S"\n'
    device = Bench(read(tmp_path, table).device[0].settings()).device
    assert device.identity is not None
    assert device.identity.product == 0xDF11
    assert device.identity.serial not in {"", "S"}


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ('name = "x"', "bus.toml:1: device[0].port: is missing"),
        ('name = "x"\nport = 1', 'bus.toml:3: device[0].port: expected a port such as "1"'),
        ('name = "x"\nport = "0"', "expected a port such as"),
        ('name = "x y"\nport = "1"', "bus.toml:2: device[0].name: expected letters, digits"),
        ('name = "x"\nport = "1"\npart = "avr"', 'expected the name of a part, got "avr": there are stm32l476,'),
        ('name = "x"\nport = "1"\nkind = "golden"', 'expected "rom", "resident-loader" or "dfu", got "golden"'),
        ('name = "x"\nport = "1"\nfault = []', 'unknown key; did you mean "faults"?'),
        ('name = "x"\nport = "1"\nfaults = ["power"]', "bus.toml:4: device[0].faults[0]: expected a fault"),
        ('name = "x"\nport = "1"\noptions = { BFB2 = true }', "expected a table of option bytes"),
        ('name = "x"\nport = "1"\noptions = { BFB3 = 1 }', "bus.toml:1: device[0]: no option bytes ['BFB3']"),
        ('name = "x"\nport = "1"\noptions = { BFB2 = 2 }', "BFB2 has 1 bit(s), 2 does not fit"),
        ('name = "x"\nport = "1"\nflash_time = -1', "expected a number from 0 to 1000"),
        ('name = "x"\nport = "1"\nsize = 600', "expected a whole number from 640"),
        ('name = "x"\nport = "1"\nversion = "1.0.0"\nsize = 600000', "600000 bytes at 0x08000000 do not fit"),
        ('name = "x"\nport = "1"\nversion = "1·0"', "a version is 1 to 32 printable ASCII characters"),
        (
            'name = "x"\nport = "1"\n[[device]]\nname = "x"\nport = "2"',
            "bus.toml:5: device[1].name: another device has it",
        ),
        (
            'name = "x"\nport = "1"\n[[device]]\nname = "y"\nport = "1"',
            "bus.toml:6: device[1].port: another device has it",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, lines: str, complaint: str) -> None:
    with pytest.raises(BadToml) as refused:
        read(tmp_path, f"[[device]]\n{lines}\n")
    assert complaint in str(refused.value)
