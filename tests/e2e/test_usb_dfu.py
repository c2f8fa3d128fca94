"""USB DFU devices and the daemon, as a user tries them without hardware: ``firmwarden run --simulated-usb``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmwarden.simulate.dfu.files import FileFormat, encode
from firmwarden.simulate.dfu.kinds import Kind, application_start, make_update
from firmwarden.simulate.dfu.parts import PARTS
from support.gateway import NEW, OLD

if TYPE_CHECKING:
    from support.gateway import Gateway
    from support.processes import Record

L476 = PARTS["stm32l476"]
SIZE = 16_384
OWN_LOADER = (0x1209, 0xDF02)
START = application_start(L476, Kind.RESIDENT_LOADER)

RETRY = 'retry = { back_off = "100ms", back_off_max = "500ms" }'
VERSION = r"version = { from = 'product', expect = 'Simulated application (\S+)' }"
ROM = ('image_format = "raw"', "image_address = 0x08000000", "[device.dfu]", VERSION)
RESIDENT = (
    'image_format = "raw"',
    f"image_address = 0x{START:08x}",
    "[device.dfu]",
    VERSION,
    'loader = "1209:df02"',
    f"application = 0x{START:08x}",
)
PLAIN = ('image_format = "dfu"', "[device.dfu]", VERSION, 'loader = "1209:df02"')


def device_class(name: str, ports: str | None, *more: str, failsafe: str = "bfb2") -> str:
    place = "" if ports is None else f', port = "usb-sim-{ports}"'
    return "\n".join(
        (
            "[[device]]",
            f'name = "{name}"',
            'driver = "dfu"',
            f'match = {{ usb = "1209:0001"{place} }}',
            'part = "STM32L476RG"',
            f'failsafe = "{failsafe}"',
            "require_signature = false",
            RETRY,
            *more,
            "",
        )
    )


def device(number: int, **more: object) -> dict[str, object]:
    return {"name": f"meter-{number}", "port": str(number), "version": OLD, "flash_time": 0.1, **more}


def update(kind: Kind = Kind.ROM, file_format: FileFormat = FileFormat.RAW, version: str = NEW) -> bytes:
    return encode(make_update(L476, kind, version, size=SIZE), file_format, OWN_LOADER)


def waits(gateway: Gateway, name: str) -> Record:
    return gateway.daemon.wait_for("job-waiting", wait="failsafe", device=gateway.id(name))


def here(gateway: Gateway, count: int) -> None:
    """Wait until so many devices are known."""
    gateway.daemon.until(lambda: len(gateway.devices()) == count, f"{count} devices")


def test_inv1_units_with_bfb2_come_back_from_power_cuts_by_themselves(gateway: Gateway) -> None:
    faults: tuple[list[str], ...] = (
        [],
        ["power@erase=3,back=0.2"],
        ["power@program=1200,back=0.2"],
        ["unplug@dnload=20,back=0.2", "power@program=1900,back=0.2"],
    )
    usb = gateway.plug(
        *(device(number, options={"BFB2": 1}, faults=each) for number, each in enumerate(faults, 1))
    )
    gateway.configure(device_class("meter", "*", *ROM), scan_interval="200ms")
    gateway.drop("meter", NEW, update())
    gateway.start()
    here(gateway, 4)
    for name in usb.names().values():
        assert gateway.job(name, "succeeded", "failed")["state"] == "succeeded"
        gateway.runs(name, NEW)
    gateway.daemon.stop()
    told = usb.told()
    for name, each in zip(told, faults, strict=True):
        assert told[name]["running"] == {"name": f"Simulated application {NEW}", "version": NEW}
        assert told[name]["faults"] == dict.fromkeys(each, 1)
        assert told[name]["landings"] == {"application": 2, "rom": 1 + len(each)}
        assert (told[name]["started_partial"], told[name]["dead"]) == (0, False)


def test_inv4_a_unit_whose_option_bit_is_off_waits_until_the_risk_is_taken(gateway: Gateway) -> None:
    usb = gateway.plug(device(1))
    gateway.configure(device_class("meter", "*", *ROM), scan_interval="200ms")
    gateway.drop("meter", NEW, update())
    gateway.start()
    here(gateway, 1)
    assert "BFB2=1" in waits(gateway, "meter-1")["detail"]
    told = usb.told()["meter-1"]
    assert told["erase_starts"] == 0

    gateway.configure(device_class("meter", "*", *ROM, failsafe="none"), scan_interval="200ms")
    gateway.reload()
    gateway.job("meter-1", "succeeded")
    gateway.daemon.stop()
    told = usb.told()["meter-1"]
    assert told["running"] == {"name": f"Simulated application {NEW}", "version": NEW}
    assert told["started_partial"] == 0


def test_inv1_resident_loaders_take_power_cuts_too(gateway: Gateway) -> None:
    usb = gateway.plug(
        device(1, kind="resident-loader", faults=["power@program=900,back=0.2"]),
        device(2, kind="dfu", faults=["power@program=900,back=0.2"]),
    )
    gateway.configure(
        device_class("behind", "1", *RESIDENT, failsafe="resident-loader"),
        device_class("plain", "2", *PLAIN, failsafe="resident-loader"),
        scan_interval="200ms",
    )
    gateway.drop("behind", NEW, update(Kind.RESIDENT_LOADER))
    gateway.drop("plain", NEW, update(Kind.DFU, FileFormat.DFU))
    gateway.start()
    here(gateway, 2)
    for name in ("meter-1", "meter-2"):
        assert gateway.job(name, "succeeded", "failed")["state"] == "succeeded"
    gateway.daemon.stop()
    for name, told in usb.told().items():
        assert told["running"] == {"name": f"Simulated application {NEW}", "version": NEW}, name
        assert (told["started_partial"], told["dead"]) == (0, False)
    assert usb.told()["meter-1"]["landings"]["loader"] == 2


EMPTY = {"options": {"BFB2": 1}, "rom_serial": "TWIN"}
TWINS = ({"name": "meter-1", "port": "1", **EMPTY}, {"name": "meter-2", "port": "2", **EMPTY})


def test_inv4_loaders_that_cannot_be_told_apart_are_left_alone(gateway: Gateway) -> None:
    """Chips that wait in their ROM, of which nobody knows anything."""
    usb = gateway.plug(*TWINS, device(3, options={"BFB2": 1}))
    gateway.configure(device_class("meter", None, *ROM), scan_interval="200ms")
    gateway.drop("meter", NEW, update())
    gateway.start()
    here(gateway, 1)
    gateway.job("meter-3", "succeeded")
    gateway.daemon.stop()
    for name in ("meter-1", "meter-2"):
        told = usb.told()[name]
        assert (told["mode"], told["erase_starts"], told["requests"]) == ("rom", 0, {})


def test_inv4_a_place_that_belongs_to_a_class_tells_twins_apart(gateway: Gateway) -> None:
    usb = gateway.plug(*TWINS, {"name": "meter-3", "port": "3", **EMPTY})
    gateway.configure(device_class("meter", "[12]", *ROM), scan_interval="200ms")
    gateway.drop("meter", NEW, update())
    gateway.start()
    here(gateway, 2)
    for name in ("meter-1", "meter-2"):
        gateway.job(name, "succeeded")
    gateway.daemon.stop()
    told = usb.told()
    for name in ("meter-1", "meter-2"):
        assert told[name]["running"] == {"name": f"Simulated application {NEW}", "version": NEW}
    assert (told["meter-3"]["mode"], told["meter-3"]["requests"]) == ("rom", {})


def test_units_that_come_new_with_the_release_are_known_by_what_they_hold(gateway: Gateway) -> None:
    """What they run is told by nothing but their flash."""
    usb = gateway.plug(
        device(1, version=NEW, options={"BFB2": 1}),
        device(2, version=NEW, kind="dfu"),
        device(3, kind="dfu"),
    )
    without_version = tuple(line for line in PLAIN if line != VERSION)
    gateway.configure(
        device_class("addressed", "1", *(line for line in ROM if line != VERSION)),
        device_class("plain", "[23]", *without_version, failsafe="resident-loader"),
        scan_interval="200ms",
    )
    held = {
        "meter-1": gateway.drop("addressed", NEW, update()),
        "meter-2": gateway.drop("plain", NEW, update(Kind.DFU, FileFormat.DFU)),
    }
    gateway.start()
    here(gateway, 3)
    for name in usb.names().values():
        gateway.job(name, "succeeded")
    for name, digest in held.items():
        known = gateway.device(name)
        assert (known["running_version"], known["running_image"]) == (NEW, digest)
        assert "its flash, read back, holds exactly this image" in known["running_evidence"]
        assert known["wear"]["life"] == 0
    gateway.daemon.stop()
    told = usb.told()
    for name in held:
        assert (told[name]["erase_starts"], told[name]["started_partial"]) == (0, 0)
    assert told["meter-3"]["erase_starts"] > 0
    assert {each["running"]["version"] for each in told.values() if each["running"]} == {NEW}


def test_a_description_that_is_wrong_starts_no_daemon(gateway: Gateway) -> None:
    usb = gateway.plug(device(1, flash_time=-1))
    gateway.configure()
    done = gateway.command("run", "--config", gateway.config, "--simulated-usb", usb.file)
    assert done.returncode == 2
    assert "usb.toml:7: device[0].flash_time: expected a number from 0 to 1000, got -1" in done.stderr
    assert not gateway.state.exists()
