"""What each component gets of a class with USB DFU."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from firmwarden import config as cfg
from firmwarden.app import wiring
from firmwarden.drivers import entry
from firmwarden.drivers.boot.describe import outlooks
from firmwarden.drivers.boot.lookup import family_of
from firmwarden.drivers.dfu import DfuDriver
from firmwarden.drivers.dfu_settings import DfuSettings, EnterDetach, VersionSource
from firmwarden.images.formats import ImageFormat, ImageRules
from firmwarden.model import ClassName, Device, DeviceId, ImageHash, Job, JobId, JobState, UsbAddress
from firmwarden.service.conditions import Condition
from firmwarden.service.identity import ClassRule
from firmwarden.service.inhibitors import Inhibitor
from firmwarden.service.rollout import Rule
from firmwarden.service.windows import Timetable, Window
from support.dfu_attempts import Book
from support.dfu_bench import DEVICE
from support.dfu_ports import PLACE, SimulatedUsb

METER = ClassName("meter")


def meter(tmp_path: Path, lines: str = "") -> cfg.Config:
    file = tmp_path / "firmwarden.toml"
    file.write_text(f"""
[[device]]
name = "meter"
driver = "dfu"
match = {{ usb = "1209:0001", port = "usb-*-1.4" }}
image_address = 0x08000000
{lines}

[[device]]
name = "panel"
driver = "mdfu"
match = {{ usb = "04d8:000a" }}
""")
    return cfg.load(file)


GOLDEN = """part = "STM32L476RG"
failsafe = "golden-bank"
dfu = { version = { from = "product", expect = '(.+)' } }"""


@pytest.mark.parametrize(
    ("lines", "doubt"),
    [
        ("", "nobody said which part it is, and what protects it when the power fails"),
        (
            'part = "STM32F072RB"',
            "nobody said what protects it when the power fails; STM32F072/078, F070xB can have",
        ),
        ('part = "STM32L496RG"\nfailsafe = "bfb2"', "is not proven on STM32L496/4A6"),
        ('part = "STM32L476RG"\nfailsafe = "bfb2"', ""),
        ('failsafe = "none"', ""),
        (GOLDEN, "that jumps into the ROM may leave the banks swapped"),
        (f'enter = {{ method = "none" }}\n{GOLDEN}', ""),
    ],
)
def test_a_class_s_updates_wait_for_what_nothing_proves(tmp_path: Path, lines: str, doubt: str) -> None:
    told = wiring.policies(meter(tmp_path, lines))[METER].doubt
    assert doubt in told
    assert bool(told) is bool(doubt)


@pytest.mark.parametrize(
    ("lines", "command"),
    [
        (
            'part = "STM32L476RG"\nfailsafe = "bfb2"',
            "firmwarden provision --usb 0483:df11@{topology} --part STM32L476RG --failsafe bfb2",
        ),
        ('part = "STM32L496RG"\nfailsafe = "bfb2"', ""),
        ('part = "STM32L476RG"\nfailsafe = "none"', ""),
        ("", ""),
    ],
)
def test_a_class_knows_the_command_that_sets_what_it_relies_on(
    tmp_path: Path, lines: str, command: str
) -> None:
    assert wiring.policies(meter(tmp_path, lines))[METER].provision == command


def test_a_class_knows_what_a_power_cut_would_leave(tmp_path: Path) -> None:
    policies = wiring.policies(meter(tmp_path, 'part = "STM32L476RG"\nfailsafe = "bfb2"'))
    assert policies[METER].power_cuts == outlooks(cfg.Failsafe.BFB2)
    # Nobody said that anything protects it.
    assert wiring.policies(meter(tmp_path))[METER].power_cuts == outlooks(cfg.Failsafe.NONE)
    assert policies[METER].unprotected == outlooks(cfg.Failsafe.NONE)
    panel = policies[ClassName("panel")]
    assert (panel.doubt, panel.power_cuts, panel.unprotected) == ("", (), ())
    assert panel.settles_s == 12.0, "as long as its loader may take to answer"
    assert policies[METER].settles_s == 15.0, "as long as it may take to return"
    slow = wiring.policies(meter(tmp_path, '[device.dfu]\nloader = "34ad:0006"'))
    assert slow[METER].settles_s == 60.0, "and what is known of a product may outdo its class"


def test_inv4_only_devices_of_a_class_are_looked_at(tmp_path: Path) -> None:
    assert wiring.usb_ids(meter(tmp_path)) == {(0x1209, 1), (0x0483, 0xDF11)}
    other = meter(tmp_path, '[device.dfu]\nloader = "1209:0002"')
    assert wiring.usb_ids(other) == {(0x1209, 1), (0x1209, 2)}


def test_what_an_image_must_be(tmp_path: Path) -> None:
    lines = "image_fill = 0\ndfu = { alternate = 1 }"
    assert wiring.image_rules(meter(tmp_path, lines)) == {
        "meter": ImageRules(
            format=ImageFormat.RAW,
            fill=0,
            address=0x0800_0000,
            device=True,
            ids=((0x1209, 1), (0x0483, 0xDF11)),
            alternate=1,
        ),
        "panel": ImageRules(),
    }


def test_how_units_are_recognised(tmp_path: Path) -> None:
    dfu, mdfu = wiring.rules(meter(tmp_path))
    assert dfu == ClassRule(name=METER, dfu=True, usb=(0x1209, 1), loader=(0x0483, 0xDF11), place="usb-*-1.4")
    assert mdfu == ClassRule(name=ClassName("panel"), usb=(0x04D8, 0x000A))
    telling, _ = wiring.rules(meter(tmp_path, 'dfu = { version = { from = "product", expect = "v(.+)" } }'))
    assert telling == replace(dfu, version=VersionSource(field="product", expect=re.compile("v(.+)")))


def test_what_the_driver_gets(tmp_path: Path) -> None:
    config = meter(
        tmp_path,
        """
part = "STM32F072RB"
failsafe = "resident-loader"
[device.dfu]
loader = "1209:0002"
alternate = 1
application = 0x08004000
enter_within = "1s"
return_within = "2s"
version = { from = "revision", expect = "(.+)" }
""",
    )
    settings = wiring.dfu_settings(config.devices[0], "00C0FFEE")
    assert settings == DfuSettings(
        application=frozenset({(0x1209, 1)}),
        loader=frozenset({(0x1209, 2)}),
        image=wiring.image_rules(config)[METER],
        failsafe=cfg.Failsafe.RESIDENT_LOADER,
        declared=True,
        family=family_of("STM32F072RB"),
        application_at=0x0800_4000,
        alternate=1,
        enter=EnterDetach(),
        enter_within_s=1.0,
        return_within_s=2.0,
        version=VersionSource(field="revision", expect=re.compile("(.+)")),
    )


def test_inv4_the_driver_is_told_by_which_serial_number_a_unit_is_known(tmp_path: Path) -> None:
    config = meter(tmp_path, 'identity = "serial"')
    assert wiring.dfu_settings(config.devices[0], "00C0FFEE").serial == "00C0FFEE"
    assert wiring.dfu_settings(config.devices[0]).serial is None, "it was never seen running"


@pytest.mark.parametrize(
    ("runs", "failures", "read"), [(None, 0, True), (None, 1, False), (ImageHash("ab" * 32), 0, False)]
)
def test_a_unit_is_read_once_where_nobody_knows_what_it_runs(
    tmp_path: Path, runs: ImageHash | None, failures: int, *, read: bool
) -> None:
    config = meter(tmp_path)
    device = Device(id=DeviceId("k3f9q2"), device_class=METER, key="port:usb-1", running_image=runs)
    job = Job(
        id=JobId(1),
        device=device.id,
        device_class=METER,
        version="2.0.0",
        sequence=None,
        image=ImageHash("cd" * 32),
        size=1,
        state=JobState.RUNNING,
        created_at=0.0,
        updated_at=0.0,
        attempts=failures,
    )
    make = wiring.driver_maker(lambda: {each.name: each for each in config.devices}, SimulatedUsb(DEVICE))
    driver = make(job, device, UsbAddress(topology=PLACE), Book().begin(b"new"))
    assert isinstance(driver, DfuDriver)
    assert driver._settings.recognise is read  # noqa: SLF001


@pytest.mark.parametrize(
    ("way", "made"),
    [
        ('{ method = "none" }', entry.EnterNone()),
        ('{ method = "command", argv = ["boot"] }', entry.EnterCommand(argv=("boot",))),
    ],
)
def test_other_ways_into_a_loader(tmp_path: Path, way: str, made: object) -> None:
    assert wiring.dfu_settings(meter(tmp_path, f"enter = {way}").devices[0]).enter == made


def test_what_nobody_said_is_not_declared(tmp_path: Path) -> None:
    silent = wiring.dfu_settings(meter(tmp_path).devices[0])
    assert (silent.failsafe, silent.declared, silent.attended) == (cfg.Failsafe.NONE, False, False)
    daring = wiring.dfu_settings(meter(tmp_path, 'failsafe = "none"').devices[0])
    assert (daring.failsafe, daring.declared) == (cfg.Failsafe.NONE, True)


def test_a_release_goes_out_as_the_class_says(tmp_path: Path) -> None:
    said = wiring.policies(
        meter(tmp_path, 'rollout = { first = 2, soak = "1h", waves = [25, 100], stop_at = 5 }')
    )
    assert said[METER].rollout == Rule(first=2, soak_s=3600.0, waves=(25, 100), stop_at=5)
    assert said[ClassName("panel")].rollout is None
    assert wiring.policies(meter(tmp_path, "rollout = {}"))[METER].rollout == Rule(
        first=1, soak_s=1800.0, waves=(100,), stop_at=10
    )


def test_an_update_waits_for_the_time_that_the_class_says(tmp_path: Path) -> None:
    said = wiring.policies(
        meter(
            tmp_path,
            """windows = ["Mon-Fri 22:00-04:00"]
time_zone = "Europe/Berlin"
inhibit = "/run/kiosk/busy"
inhibit_for = "10min"
condition = { argv = ["may-update"], timeout = "5s", again = "30s" }""",
        )
    )
    timed, free = said[METER], said[ClassName("panel")]
    night, berlin = Window.parse("Mon-Fri 22:00-04:00"), timed.timetable.zone
    assert (timed.timetable.windows, str(berlin)) == ((night,), "Europe/Berlin")
    assert timed.inhibitor == Inhibitor(Path("/run/kiosk/busy"), 600.0)
    assert timed.condition == Condition(("may-update",), 5.0, 30.0)
    assert (free.timetable, free.inhibitor, free.condition) == (Timetable(), None, None)
