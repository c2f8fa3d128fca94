"""DFU devices on a real USB: by the service, and beside dfu-util."""

from __future__ import annotations

import grp
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from firmwarden.simulate.dfu.files import FileFormat, encode
from firmwarden.simulate.dfu.kinds import Kind, application_start, make_update
from firmwarden.simulate.dfu.parts import PARTS
from lab.meters import Meters
from lab.waiting import until
from support.gateway import NEW, OLD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.service import Service

PART: Final = PARTS["stm32l476"]
NAME: Final = "meter"
OWN_LOADER: Final = (0x1209, 0xDF02)
START: Final = application_start(PART, Kind.RESIDENT_LOADER)
RULE: Final = Path("/etc/udev/rules.d/60-firmwarden-dfu.rules")

RETRY: Final = 'retry = { back_off = "500ms", back_off_max = "2s", attempts = 50 }'
VERSION: Final = r"version = { from = 'product', expect = 'Simulated application (\S+)' }"
ROM: Final = ('failsafe = "bfb2"', "image_address = 0x08000000", "[device.dfu]", VERSION)
RESIDENT: Final = (
    'failsafe = "resident-loader"',
    f"image_address = 0x{START:08x}",
    "[device.dfu]",
    VERSION,
    'loader = "1209:df02"',
    f"application = 0x{START:08x}",
)
PLAIN: Final = (
    'failsafe = "resident-loader"',
    'image_format = "dfu"',
    "[device.dfu]",
    VERSION,
    'loader = "1209:df02"',
)


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Callable[..., Meters]]:
    """Plug devices in."""
    with ExitStack() as kept:

        def plugged(*devices: dict[str, object]) -> Meters:
            return kept.enter_context(closing(Meters(tmp_path, *devices)))

        yield plugged


def device(serial: str, **more: object) -> dict[str, object]:
    """Describe a device that is failsafe by BFB2, unless ``more`` says otherwise."""
    usual = {"name": NAME, "port": "1", "version": OLD, "options": {"BFB2": 1}, "flash_time": 0.2}
    return {**usual, "serial": serial, **more}


def device_class(serial: str, *more: str) -> str:
    return "\n".join(
        (
            "[[device]]",
            'name = "meter"',
            'driver = "dfu"',
            f'match = {{ usb = "1209:0001", serial = "{serial}" }}',
            'part = "STM32L476RG"',
            "require_signature = false",
            RETRY,
            *(more or ROM),
            "",
        )
    )


def update(
    kind: Kind = Kind.ROM, file_format: FileFormat = FileFormat.RAW, version: str = NEW, size: int = 16_384
) -> bytes:
    return encode(make_update(PART, kind, version, size=size), file_format, OWN_LOADER)


def assert_healthy(meters: Meters, name: str = NAME, *, version: str = NEW) -> None:
    """Hold what the device says of itself, which is the truth, to what may never happen."""
    report = until(lambda: told if (told := meters.report(name))["running"] else None, "a running device")
    assert report["running"] == {"name": f"Simulated application {version}", "version": version}
    assert (report["started_partial"], report["dead"]) == (0, False)


@pytest.mark.parametrize(
    ("kind", "file_format", "keys"),
    [
        pytest.param(Kind.ROM, FileFormat.RAW, ROM, id="rom"),
        pytest.param(Kind.RESIDENT_LOADER, FileFormat.RAW, RESIDENT, id="resident-loader"),
        pytest.param(Kind.DFU, FileFormat.DFU, PLAIN, id="plain-dfu"),
    ],
)
def test_it_is_plugged_in_detaches_and_comes_back_with_the_new_version(
    service: Service, plug: Callable[..., Meters], kind: Kind, file_format: FileFormat, keys: tuple[str, ...]
) -> None:
    service.configure(device_class(f"D-{kind}", *keys), scan_interval="1h")
    service.start()
    service.drop("meter", NEW, update(kind, file_format))
    service.wait_for("release-accepted")
    # The next scan is an hour away: what counts is that udev tells.
    meters = plug(device(f"D-{kind}", kind=kind.value))
    service.runs(NEW)
    service.job("succeeded")
    assert_healthy(meters)
    # Application, loader, application: three devices to the kernel, one to whoever looks at it.
    assert meters.report(NAME)["appearances"] == 3
    assert len(service.devices()) == 1


@pytest.mark.parametrize(
    "fault",
    ["power@program=1000,back=1", "power@erase=2,back=1", "unplug@dnload=12,back=1"],
    ids=["power-while-writing", "power-while-erasing", "cable"],
)
def test_inv1_it_loses_power_or_its_cable_and_is_finished(
    service: Service, plug: Callable[..., Meters], fault: str
) -> None:
    service.configure(device_class("LOST"))
    service.start()
    service.drop("meter", NEW, update())
    meters = plug(device("LOST", faults=[fault]))
    service.job("succeeded")
    service.runs(NEW)
    assert_healthy(meters)
    report = meters.report(NAME)
    assert report["faults"] == {fault: 1}
    assert report["landings"]["rom"] == 2
    assert service.said("attempt-failed")


def test_inv4_a_loader_at_another_port_is_left_alone_until_it_is_back(
    service: Service, plug: Callable[..., Meters]
) -> None:
    service.configure(device_class("MOVED"))
    service.start()
    service.drop("meter", NEW, update())
    meters = plug(device("MOVED", faults=["unplug@dnload=12"]))
    service.wait_for("attempt-failed")
    service.wait_for("device-gone")
    mark = meters.process.mark
    meters.process.tell(f"plug {NAME} 3")
    meters.wait_for("attached", NAME, after=mark)
    requests = dict(meters.report(NAME)["requests"])
    scan = service.client.get("status")
    assert scan["present"] == 0
    mark = meters.process.mark
    meters.process.tell(f"unplug {NAME}")
    meters.wait_for("unplugged", NAME, after=mark)
    # Nothing was asked of it while it was there.
    assert meters.report(NAME)["requests"] == requests
    meters.process.tell(f"plug {NAME} 1")
    service.job("succeeded")
    assert_healthy(meters)


def test_units_with_one_serial_number_are_told_apart_by_their_ports(
    service: Service, plug: Callable[..., Meters]
) -> None:
    service.configure(device_class("TWIN"))
    service.start()
    service.drop("meter", NEW, update())
    twins = {"rom_serial": "TWIN", "faults": ["power@program=900,back=1"]}
    meters = plug(
        device("TWIN", name="meter-1", port="1", **twins), device("TWIN", name="meter-2", port="2", **twins)
    )
    service.runs(NEW, count=2)
    for name in ("meter-1", "meter-2"):
        assert_healthy(meters, name)


def test_inv5_the_service_is_killed_in_the_middle_and_goes_on(
    service: Service, plug: Callable[..., Meters]
) -> None:
    service.unit("RestartSec=1s")
    service.configure(device_class("KILLED"))
    service.start()
    service.drop("meter", NEW, update())
    meters = plug(device("KILLED", flash_time=3))
    until(lambda: meters.report(NAME)["erase_starts"] or None, "an erase")
    service.kill()
    service.wait_for("attempt-interrupted")
    service.job("succeeded")
    service.runs(NEW)
    assert_healthy(meters)
    assert service.property("NRestarts") == "1"


def test_inv4_a_unit_that_would_be_dead_after_a_power_cut_waits(
    service: Service, plug: Callable[..., Meters]
) -> None:
    service.configure(device_class("RISKY"))
    service.start()
    service.drop("meter", NEW, update())
    meters = plug(device("RISKY", options={}))
    assert "BFB2" in service.wait_for("job-waiting", wait="failsafe")["detail"]
    assert meters.report(NAME)["erase_starts"] == 0


@pytest.fixture
def rule() -> Iterator[str]:
    """The rule for DFU devices, taken away for once."""
    text = RULE.read_text()
    RULE.unlink()
    subprocess.run(["udevadm", "control", "--reload"], check=True)
    yield text
    put_back(text)


def put_back(rule: str) -> None:
    RULE.write_text(rule)
    subprocess.run(["udevadm", "control", "--reload"], check=True)


def test_without_the_udev_rule_it_is_said_what_is_missing(
    service: Service, plug: Callable[..., Meters], rule: str
) -> None:
    service.configure(device_class("RULED"))
    service.start()
    service.drop("meter", NEW, update())
    meters = plug(device("RULED"))
    failed = service.wait_for("attempt-failed")
    assert "permission denied" in failed["detail"]
    assert RULE.name in failed["detail"]
    assert meters.report(NAME)["erase_starts"] == 0
    # What the file says about itself: no re-plug is needed.
    put_back(rule)
    subprocess.run(["udevadm", "trigger", "--action=change", "--subsystem-match=usb"], check=True)
    service.job("succeeded")
    assert_healthy(meters)


def test_whoever_is_in_the_group_may_use_it_and_others_are_told_so(plug: Callable[..., Meters]) -> None:
    plug({"name": NAME, "port": "1", "options": {"BFB2": 1}})

    def places() -> list[str]:
        ids = Path("/sys/bus/usb/devices").glob("*/idProduct")
        return [each.parent.name for each in ids if each.read_text() == "df11\n"]

    (place,) = until(places, "a loader on the USB")
    subprocess.run(["udevadm", "settle"], check=True)

    def info(*groups: str) -> subprocess.CompletedProcess[str]:
        nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", *groups]
        command = [*nobody, "firmwarden", "info", "--usb", f"0483:df11@{place}"]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    refused = info("--clear-groups")
    assert refused.returncode
    assert "it is for the group 'firmwarden'" in " ".join(refused.stderr.split())
    allowed = info(f"--groups={grp.getgrnam('firmwarden').gr_gid}")
    assert (allowed.returncode, allowed.stderr) == (0, "")


# --- beside dfu-util

ADDRESS: Final = "0x08000000"
BLOCK: Final = 65_536


def dfu_util(*options: object) -> str:
    command = ["dfu-util", "--device", "0483:df11", "--alt", "0", *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_dfu_util_and_the_service_do_the_same_work(
    service: Service, plug: Callable[..., Meters], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, read_back = tmp_path / "image", tmp_path / "read-back"
    image.write_bytes(update(size=BLOCK))
    meters = plug(device("PEER", flash_time=1.0))
    service.configure(device_class("PEER"))
    service.start()
    service.drop("meter", NEW, image.read_bytes())
    service.job("succeeded")
    ours_s = service.said("update-succeeded")[0]["seconds"]
    assert_healthy(meters)
    service.stop()
    meters.close()

    (tmp_path / "second").mkdir()
    # Without an application it stays in its ROM.
    with closing(Meters(tmp_path / "second", {"name": NAME, "port": "1", "options": {"BFB2": 1}})) as bare:
        listed = until(lambda: told if (told := dfu_util("--list")).count("Found DFU") else None, "a device")
        assert "@Internal Flash" in listed
        began = time.monotonic()
        dfu_util("--dfuse-address", ADDRESS, "--download", image)
        downloaded = time.monotonic()
        dfu_util("--dfuse-address", f"{ADDRESS}:{BLOCK}", "--upload", read_back)
        uploaded = time.monotonic()
        assert read_back.read_bytes() == image.read_bytes()
        dfu_util("--dfuse-address", f"{ADDRESS}:leave", "--download", image)
        assert_healthy(bare)
    with capsys.disabled():
        print(
            f"\n{BLOCK // 1024} KiB into an STM32L476: firmwarden {ours_s:.1f} s, from detach to the new version; "
            f"dfu-util {downloaded - began:.1f} s of download and {uploaded - downloaded:.1f} s of upload"
        )
