"""The commands without a daemon with ``--usb``: which device is meant, and the whole way to simulated ones."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.app import named_usb, once
from firmwarden.app.named_usb import UsbTarget
from firmwarden.app.once import UpdateOrder, update_once
from firmwarden.exit_status import ExitStatus
from firmwarden.images.dfu_suffix import DfuSuffix, append
from firmwarden.images.dfuse_file import DfuseFile, DfuseTarget
from firmwarden.protocol.dfu.requests import Request
from firmwarden.simulate.dfu.backend import SimBackend
from firmwarden.simulate.dfu.description import DescribedDevice
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.faults import Fault, Kind
from firmwarden.simulate.dfu.files import FileFormat, encode
from firmwarden.simulate.dfu.firmware import RunTime
from firmwarden.simulate.dfu.kinds import Kind as ProductKind
from firmwarden.simulate.dfu.kinds import make_update
from firmwarden.simulate.dfu.lister import SimLister
from firmwarden.transport.usb import UsbBus
from support.dfu_bus import LiveBus
from support.dfu_simulated import L476, image, settings
from support.memory_desk import LINK_LOST

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

    from firmwarden.simulate.dfu.firmware import Firmware
    from firmwarden.simulate.dfu.work import Moment

    Run = Callable[..., Result]

QUICK: Final = {"boot_s": 0.02, "flash_time": 0.0}
OLD: Final = image("old", L476, 6000)
NEW: Final = image("new", L476, 7000)
PROTECTED: Final = ["--part", "STM32L476RG", "--failsafe", "bfb2"]


class Bus:
    """A simulated USB that the command line finds instead of the machine's."""

    def __init__(self) -> None:
        self.bus = LiveBus()
        self.usb = UsbBus(SimLister(self.bus), lambda: SimBackend(self.bus))

    def meter(self, *port: int, images: tuple[Firmware, ...] = (OLD, NEW), **more: object) -> SimDfu:
        """Plug in a unit that runs its first image; its ROM stays when there is none."""
        device = SimDfu(settings(L476, *images, factory={"BFB2": 1}, **QUICK, **more))
        self.bus.plug(device, *port)
        return device


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bus:
    bus = Bus()
    monkeypatch.setattr(named_usb, "real_usb", lambda: bus.usb)
    monkeypatch.setattr(named_usb, "USB_NODES", tmp_path / "usb")
    return bus


@pytest.fixture
def new(tmp_path: Path) -> str:
    return written(tmp_path / "new.bin", NEW.segments[0].data)


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def dfuse_file(firmware: Firmware, suffix: DfuSuffix) -> bytes:
    target = DfuseTarget(alternate=0, elements=firmware.segments)
    return DfuseFile(targets=(target,), suffix=suffix).encode()


def events(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def runs(device: SimDfu) -> str:
    assert device.boot is not None
    return device.boot.firmware.name if device.boot.firmware is not None else device.boot.landing.name


def words(text: str) -> str:
    return " ".join(text.split())


# --- which device ----------------------------------------------------------------------------------------


def refusal(result: Result) -> str:
    """What is said where nothing was sent."""
    assert result.exit_code == 2
    return words(result.stdout).removeprefix("Nothing was sent to the device. ")


def test_nothing_like_that(run_alone: Run, bus: Bus, new: str) -> None:
    assert "no DFU device is here at all" in refusal(run_alone("update", new, "--usb", "1209:0002"))
    bus.meter(1, 4)
    bus.meter(2, boot0=True)
    told = refusal(run_alone("update", new, "--usb", "1209:0002"))
    assert told.startswith(
        "Nothing like 1209:0002 is plugged in; DFU devices here: 1209:0001@1-1.4 (application old"
    )
    assert "; 0483:df11@1-2 (STM32 BOOTLOADER, serial number " in told
    assert told.endswith("in its loader).")
    for elsewhere in ("1209:0001@1-1", "1209:0001,other", "1209:0001@1-1.4,other"):
        assert f"Nothing like {elsewhere} is" in refusal(run_alone("update", new, "--usb", elsewhere))


@pytest.mark.parametrize("command", ["info", "plan"])
def test_nothing_to_look_at_is_wrong_usage_too(run_alone: Run, bus: Bus, new: str, command: str) -> None:
    assert bus.usb.scan() == ()
    result = run_alone(command, *([new] if command == "plan" else []), "--usb", "1209:0002")
    assert result.exit_code == 2
    assert "nothing like 1209:0002 is plugged in" in words(result.stderr)


def test_inv4_none_of_several_is_the_first(run_alone: Run, bus: Bus, new: str) -> None:
    bus.meter(1, 4)
    bus.meter(1, 3)
    told = refusal(run_alone("update", new, "--usb", "1209:0001"))
    assert told.startswith("Several devices are 1209:0001, and none is taken for being the first")
    assert "1209:0001@1-1.3 (application old" in told
    assert "1209:0001@1-1.4 (application old" in told


def test_inv4_the_ids_of_a_rom_are_not_enough_alone(run_alone: Run, bus: Bus, new: str) -> None:
    device = bus.meter(1, 4, boot0=True)
    told = refusal(run_alone("update", new, "--usb", "0483:df11"))
    assert told.startswith("Many products have 0483:df11, so name the place, too: 0483:df11@1-1.4 (STM32")
    assert device.serial is not None
    for enough in ("@1-1.4", f",{device.serial}", f"@1-1.4,{device.serial}"):
        assert run_alone("info", "--usb", f"0483:df11{enough}").exit_code == 0


def test_a_device_without_dfu(run_alone: Run, bus: Bus, new: str) -> None:
    keyboard = image("keyboard", L476, 6000, run_time=RunTime(dfu_interface=None))
    bus.meter(1, images=(keyboard,))
    assert refusal(run_alone("update", new, "--usb", "1209:0001")) == "1209:0001@1-1 has no DFU interface."


def test_a_device_that_this_user_may_not_open(run_alone: Run, bus: Bus, new: str, tmp_path: Path) -> None:
    bus.meter(1)
    (seen,) = bus.usb.scan()
    node = tmp_path / "usb" / "001" / f"{seen.address:03}"
    node.parent.mkdir(parents=True)
    node.touch(mode=0o400)
    if os.geteuid() == 0:  # whom no such mode stops
        assert run_alone("info", "--usb", "1209:0001").exit_code == 0
        return
    told = refusal(run_alone("update", new, "--usb", "1209:0001"))
    assert f"{node}: permission denied; use sudo; a rule for udev such as those in" in told


# --- the whole way ---------------------------------------------------------------------------------------


def test_a_running_unit_is_updated(run_alone: Run, bus: Bus, new: str) -> None:
    device = bus.meter(1, 4)
    result = run_alone("update", new, "--usb", "1209:0001", "--address", "0x08000000", *PROTECTED)
    assert result.exit_code == 0, result.stdout
    assert "The image is taken for a raw image." in result.stdout
    assert "Updated: the image was read back whole; it is back as 1209:0001 application new" in words(
        result.stdout
    )
    assert "Warning" not in result.stdout
    assert "--failsafe" not in result.stdout
    assert runs(device) == "new"


@pytest.mark.parametrize("named", ["0483:df11@1-1.4", "1209:0001@1-1.4"])
def test_a_unit_that_is_stuck_in_its_rom_is_updated(
    run_alone: Run, bus: Bus, tmp_path: Path, named: str
) -> None:
    """By what the ROM shows, or by what it is and where."""
    device = bus.meter(1, 4, installed={})
    assert runs(device) == "ROM"
    image = written(
        tmp_path / "new.dfu", dfuse_file(NEW, DfuSuffix(vendor=0x0483, product=0xDF11, dfu=0x011A))
    )
    result = run_alone("update", image, "--usb", named, *PROTECTED, "--json")
    assert result.exit_code == 0, result.stdout
    told = events(result)
    assert {"event": "image-taken", "detail": "The image is taken for a DfuSe file."} in told
    assert (told[-1]["event"], told[-1]["outcome"]) == ("update-finished", "succeeded")
    assert runs(device) == "new"


def test_what_the_daemon_would_wait_for_is_a_warning_before_the_erase(bus: Bus, new: str) -> None:
    device = bus.meter(1)
    told: list[dict[str, object]] = []
    told_before: list[dict[str, object]] = []

    def watch(moment: Moment) -> None:
        if moment.operation is not None:  # else it is only asked for its status
            told_before[:] = told_before or told

    device.watcher = watch
    order = UpdateOrder(image=Path(new), target=UsbTarget(ids=(0x1209, 1), address=0x0800_0000))
    assert update_once(order, told.append) is ExitStatus.SUCCEEDED
    [warning] = [each["detail"] for each in told_before if each["event"] == "warning"]
    assert isinstance(warning, str)
    assert warning == (
        "nobody said which part it is, and what protects it when the power fails; an interruption may brick the device"
    )
    assert runs(device) == "new"


def test_a_warning_is_told_in_words(run_alone: Run, bus: Bus, new: str) -> None:
    bus.meter(1)
    result = run_alone("update", new, "--usb", "1209:0001", "--address", "0x08000000")
    assert result.exit_code == 0
    told = words(result.stdout)
    assert "What protects the device when the power fails is told by --part and --failsafe." in told
    assert told.count("Warning: nobody said which part it is") == 1
    assert "class" not in told


def test_inv4_another_unit_at_the_place_of_one_that_was_cut_is_left_alone(bus: Bus, new: str) -> None:
    """Its ROM may well tell the same serial number; what is in its flash is not what the update can have left."""
    cut = bus.meter(
        1, boot0=True, serial="00000000001A", faults=(Fault(kind=Kind.UNPLUG, on=Request.DNLOAD, at=10),)
    )
    other: list[SimDfu] = []
    told: list[dict[str, object]] = []

    def report(event: dict[str, object]) -> None:
        told.append(event)
        if event["event"] == "attempt-failed" and not other:
            bus.bus.unplug(1)
            other.append(
                bus.meter(1, boot0=True, serial="00000000001A", images=(image("another", L476, 5000), NEW))
            )

    target = UsbTarget(ids=(0x0483, 0xDF11), topology="1-1", address=0x0800_0000)
    assert update_once(UpdateOrder(image=Path(new), target=target), report) is ExitStatus.REFUSED
    assert told[-1]["outcome"] == "failed"
    cause = told[-1]["cause"]
    assert isinstance(cause, dict)
    assert (cause["code"], cause["scope"]) == ("identity", None)
    assert "another unit is on the port" in cause["detail"]
    assert sum(other[0].chip.flash.wear) == 0
    assert sum(cut.chip.flash.wear) > 0


def test_what_the_device_rules_out_stays_refused(run_alone: Run, bus: Bus, tmp_path: Path) -> None:
    device = bus.meter(1)
    image = written(tmp_path / "zeros.bin", bytes(4096))
    result = run_alone("update", image, "--usb", "1209:0001", "--address", "0x08000000", *PROTECTED)
    assert result.exit_code == 1
    assert "stack pointer 0x00000000" in words(result.stdout)
    assert runs(device) == "old"


def test_inv4_a_part_that_the_device_contradicts_is_refused(run_alone: Run, bus: Bus, new: str) -> None:
    """Else it would be written in pages and words that are not its own."""
    device = bus.meter(1)
    result = run_alone(
        "update", new, "--usb", "1209:0001", "--address", "0x08000000", "--part", "STM32F207VG"
    )
    assert result.exit_code == 1
    assert "Not updated. The device is no STM32F2" in words(result.stdout)
    assert sum(device.chip.flash.wear) == 0


@pytest.mark.parametrize(
    ("name", "content", "options", "says"),
    [
        ("new.bin", b"", "--address 0x08000000", "is empty"),
        ("new.hex", b"no hex", "", "Line 1: a record starts with a colon"),
        ("new.HEX", b":00000001FF", "--address 0", "is an Intel HEX file, and --address is for raw images"),
        ("new.dfu", append(b"image", DfuSuffix())[:-1] + b"\0", "", "the DFU suffix says CRC"),
        ("new.dfu", append(b"image", DfuSuffix(vendor=0x1209, product=2)), "", "The image is for 1209:0002"),
        (
            "new.dfu",
            dfuse_file(NEW, DfuSuffix(vendor=0x1209, product=2, dfu=0x011A)),
            "",
            "The image is for 1209:0002, the device is 0483:df11 and 1209:0001",
        ),
        (
            "new.dfu",
            dfuse_file(NEW, DfuSuffix(vendor=0x1209, product=1, dfu=0x011A))[:-1],
            "",
            "cut short: it begins as a DfuSe file",
        ),
        ("new.bin", b"image", "", "Where does a raw image go? Its loader is taken for 0483:df11"),
        ("new.bin", b"image", "--loader 0483:df11", "Where does a raw image go?"),
        ("new.bin", b"image", "--address 0x1fff7800", "option bytes are never written by an update"),
    ],
)
def test_inv8_a_bad_image_is_refused_before_anything_is_sent(
    run_alone: Run, bus: Bus, tmp_path: Path, name: str, content: bytes, options: str, says: str
) -> None:
    device = bus.meter(1)
    image = written(tmp_path / name, content)
    assert says in refusal(run_alone("update", image, "--usb", "1209:0001", *options.split()))
    assert runs(device) == "old"


def test_inv8_a_loader_that_is_there_already_takes_only_its_kind_of_image(
    run_alone: Run, bus: Bus, tmp_path: Path, new: str
) -> None:
    bus.meter(1, boot0=True)
    told = refusal(run_alone("update", new, "--usb", "0483:df11@1-1"))
    assert "nobody said where a raw image goes" in told
    suffixed = written(tmp_path / "new.dfu", append(b"image", DfuSuffix()))
    told = refusal(run_alone("update", suffixed, "--usb", "0483:df11@1-1"))
    assert "a file with a DFU suffix does not say where it goes" in told
    described = DescribedDevice(name="meter", port=(2,), kind=ProductKind.DFU, flash_time=0.0)
    bus.bus.plug(SimDfu(described.settings()), 2)
    told = refusal(run_alone("update", new, "--usb", "1209:df02", "--address", "0x08004000"))
    assert "takes no addresses" in told


def test_inv8_a_plan_asks_as_an_update_does_where_a_raw_image_goes(
    run_alone: Run, bus: Bus, new: str
) -> None:
    device = bus.meter(1)
    result = run_alone("plan", new, "--usb", "1209:0001")
    assert result.exit_code == 2
    assert "where does a raw image go?" in words(result.stderr)
    assert runs(device) == "old"


def test_info_tells_what_the_loader_tells(run_alone: Run, bus: Bus) -> None:
    bus.meter(1, boot0=True)
    told = run_alone("info", "--usb", "0483:df11@1-1", "--part", "STM32L476RG").stdout
    assert "memory-0  " in told
    assert "@Internal Flash" in told
    (record,) = events(run_alone("info", "--usb", "0483:df11@1-1", "--json"))
    assert record["ids"] == "0483:df11"


def test_a_plan_tells_each_phase_and_what_a_power_cut_would_leave(run_alone: Run, bus: Bus, new: str) -> None:
    device = bus.meter(1, boot0=True)
    before = device.chip.flash
    command = ("plan", new, "--usb", "0483:df11@1-1", "--address", "0x08000000")
    told = words(run_alone(*command, *PROTECTED).stdout)
    assert "erase the page at 0x08000000, with which the device starts" in told
    assert "If interrupted: the ROM's loader runs, and the update goes on" in told
    assert "DEAD" not in told
    unprotected = words(run_alone(*command, "--failsafe", "none").stdout)
    assert "If interrupted: it starts what is no image: only BOOT0 or a debugger helps" in unprotected
    steps = events(run_alone(*command, *PROTECTED, "--json"))
    assert {"step", "does", "if_interrupted"} == set(steps[0])
    assert device.chip.flash is before


# --- loaders that are not ST's ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "file_format", "options"),
    [
        (ProductKind.RESIDENT_LOADER, FileFormat.HEX, ["--application", "0x08004000"]),
        (ProductKind.RESIDENT_LOADER, FileFormat.DFUSE, ["--application", "0x08004000"]),
        (ProductKind.DFU, FileFormat.DFU, []),
        (ProductKind.DFU, FileFormat.RAW, []),
    ],
)
def test_a_unit_with_a_loader_of_its_own_is_updated(
    run_alone: Run, bus: Bus, tmp_path: Path, kind: ProductKind, file_format: FileFormat, options: list[str]
) -> None:
    described = DescribedDevice(name="meter", port=(1,), kind=kind, version="1.0.0", flash_time=0.0)
    device = SimDfu(replace(described.settings(), boot_s=0.02))
    bus.bus.plug(device, 1)
    update = make_update(device.settings.part, kind, "2.0.0", size=8192)
    suffix = {FileFormat.HEX: ".hex", FileFormat.RAW: ".bin"}.get(file_format, ".dfu")
    file = written(tmp_path / f"new{suffix}", encode(update, file_format, (0x1209, 0xDF02)))
    result = run_alone(
        *("update", file, "--usb", "1209:0001", "--loader", "1209:df02"),
        *("--failsafe", "resident-loader", *options),
    )
    assert result.exit_code == 0, result.stdout
    assert "Warning" not in result.stdout
    assert runs(device) == "Simulated application 2.0.0"


def test_a_loader_of_which_nobody_told_is_hinted_at(
    run_alone: Run, monkeypatch: pytest.MonkeyPatch, new: str
) -> None:
    failed: dict[str, object] = {
        "event": "attempt-failed",
        "cause": "entry-failed",
        "detail": "no loader came",
    }
    end: dict[str, object] = {
        "event": "update-finished",
        "outcome": "failed",
        "cause": {**LINK_LOST, "scope": None},
    }

    def update(_order: UpdateOrder, report: Callable[[dict[str, object]], None]) -> ExitStatus:
        report(failed)
        report(end)
        return ExitStatus.EXHAUSTED

    monkeypatch.setattr(once, "update_once", update)
    told = words(run_alone("update", new, "--usb", "1209:0001").stdout)
    assert told.endswith("Perhaps its loader goes by other ids: --loader VID:PID names them.")
