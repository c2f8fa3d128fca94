"""Serial devices on a real USB: plugged, pulled out in the middle, plugged in again, here and elsewhere."""

from __future__ import annotations

import threading
import zlib
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import serial

from lab.adapters import Gadget, UsbSerial
from lab.usbmon import ControlRequest, Listener
from lab.waiting import until
from lab.wire import Panel
from support.gateway import LOADER, NEW, OLD, QUICK, USUAL, device_class, image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.service import Service

Adapter = UsbSerial | Gadget

SLOWLY: Final = ("--paced", 38_400)
"""An update takes eight seconds: long enough for a hand to be in the middle of it."""
BY_SERIAL: Final = 'identity = "serial"'


@pytest.fixture
def kept() -> Iterator[ExitStack]:
    """Adapters, and what else has to be put away in the end, after the devices: a gadget waits for its far end."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def switch_on(tmp_path: Path, kept: ExitStack) -> Iterator[Callable[..., Panel]]:  # noqa: ARG001
    """Switch a device on, at the far end of an adapter."""
    with ExitStack() as devices:

        def made(adapter: Adapter, *options: object) -> Panel:
            return devices.enter_context(closing(Panel(tmp_path, adapter.far_end, *options)))

        yield made


@pytest.fixture(params=[UsbSerial, Gadget], ids=["usb-serial", "cdc-acm"])
def adapter(request: pytest.FixtureRequest, kept: ExitStack) -> Adapter:
    serial = f"UNIT{zlib.crc32(request.node.name.encode()):08X}"
    made: Adapter = request.param(serial)
    return kept.enter_context(closing(made))


def matching(adapter: Adapter) -> str:
    return f'usb = "{adapter.IDS}", serial = "{adapter.serial}"'


def assert_healthy(panel: Panel, *, erases: int) -> None:
    """Hold what the device says of itself, which is the truth, to what may never happen."""
    report = until(lambda: told if (told := panel.report())["running"] else None, "a running application")
    assert report["running"] is not None
    assert report["running"]["version"] == NEW
    assert (report["started_partial"], report["ended_partial"]) == (0, 0)
    assert report["erase_starts"] == erases


def test_it_is_plugged_in(service: Service, adapter: Adapter, switch_on: Callable[..., Panel]) -> None:
    panel = switch_on(adapter, "--version", OLD)
    service.configure(device_class("panel", matching(adapter), *USUAL), scan_interval="1h")
    service.start()
    service.drop("panel", NEW, image())
    service.wait_for("release-accepted")
    assert service.devices() == []
    # The next scan is an hour away: what counts is that udev tells.
    adapter.plug(1)
    service.runs(NEW)
    assert_healthy(panel, erases=1)


@pytest.mark.parametrize("back", [1, 2], ids=["same-port", "other-port"])
def test_inv2_it_is_pulled_out_in_the_middle_and_finished_when_it_is_back(
    service: Service, adapter: Adapter, switch_on: Callable[..., Panel], back: int
) -> None:
    panel = switch_on(adapter, "--version", OLD, *SLOWLY)
    adapter.plug(1)
    service.configure(device_class("panel", matching(adapter), BY_SERIAL, *USUAL))
    service.drop("panel", NEW, image())
    service.start()
    panel.wait_for("erase")
    adapter.unplug()
    service.wait_for("device-gone")
    assert service.wait_for("attempt-failed")["cause"] == "link-lost"
    assert not service.device()["present"]
    adapter.plug(back)
    service.job("succeeded")
    service.runs(NEW)
    assert len(service.client.get("jobs")["jobs"]) == 1
    assert_healthy(panel, erases=2)


@contextmanager
def talking(far_end: str) -> Iterator[None]:
    """Say something every other millisecond, heard or not."""
    over = threading.Event()

    def talk() -> None:
        with Path(far_end).open("wb", buffering=0) as far:
            while not over.wait(0.002):
                far.write(b"something ")

    talker = threading.Thread(target=talk, name=f"talks at {far_end}")
    talker.start()
    try:
        yield
    finally:
        over.set()
        talker.join()


def test_a_device_may_talk_while_its_adapter_is_pulled_out(kept: ExitStack) -> None:
    adapter = kept.enter_context(closing(UsbSerial("TALKER")))
    kept.enter_context(talking(adapter.far_end))
    for _ in range(5):
        adapter.plug(1)
        (path,) = until(lambda: list(Path("/dev").glob("ttyUSB*")), "a tty")
        with serial.Serial(str(path), timeout=60) as tty:
            assert tty.read(1)
            adapter.unplug()


def test_inv4_another_port_is_another_unit_where_the_port_tells_them_apart(
    service: Service, kept: ExitStack, switch_on: Callable[..., Panel]
) -> None:
    adapter = kept.enter_context(closing(UsbSerial("WANDERER")))
    switch_on(adapter, "--version", NEW)
    service.configure(device_class("panel", matching(adapter), *USUAL))
    service.start()
    adapter.plug(1)
    service.wait_for("device-enrolled")
    adapter.unplug()
    service.wait_for("device-gone")
    adapter.plug(2)
    service.wait_for("device-enrolled", count=2)
    adapter.unplug()
    service.wait_for("device-gone", count=2)
    adapter.plug(1)
    service.wait_for("device-appeared")
    adapter.unplug()
    assert len({device["port"] for device in service.devices()}) == 2


def test_inv4_two_units_with_one_serial_number_are_left_alone(
    service: Service, kept: ExitStack, switch_on: Callable[..., Panel]
) -> None:
    first, second = (kept.enter_context(closing(UsbSerial("TWIN", wire))) for wire in (0, 1))
    panel = switch_on(first, "--version", OLD)
    service.configure(device_class("panel", matching(first), BY_SERIAL, *USUAL))
    service.start()
    second.plug(1)
    service.wait_for("device-enrolled")
    first.plug(2)
    conflict = service.wait_for("device-conflict")
    service.drop("panel", NEW, image())
    assert service.wait_for("job-waiting")["wait"] == "identity"
    assert conflict["detail"] in service.why()["next"]
    assert panel.report()["commands"] == {}
    second.unplug()
    service.job("succeeded")
    assert_healthy(panel, erases=1)


def test_it_comes_back_as_another_device_when_it_is_touched_at_1200_baud(
    service: Service, kept: ExitStack, switch_on: Callable[..., Panel]
) -> None:
    gadget = kept.enter_context(closing(Gadget("TOUCHED")))
    panel = switch_on(gadget, *LOADER)
    enter = 'enter = { method = "touch-1200", wait = "60s" }'
    service.configure(device_class("panel", matching(gadget), enter, QUICK, BY_SERIAL))
    service.start()
    gadget.plug(1)
    with Listener() as listener:
        service.drop("panel", NEW, image())
        # SET_LINE_CODING (CDC PSTN 1.2, 6.3.10) begins with the rate.
        listener.wait_for(
            lambda asked: (
                (asked.kind, asked.request, asked.data[:4]) == (0x21, 0x20, (1200).to_bytes(4, "little"))
            ),
            "a touch at 1200 baud",
        )
        gadget.unplug()
    gadget.plug(1)
    service.job("succeeded")
    assert_healthy(panel, erases=1)


DTR, RTS = 1, 2


def lines_of(asked: ControlRequest, before: int) -> int:
    """Follow the lines that a request sets: of an FT232's (SIO_SET_MODEM_CTRL), or of CDC-ACM's (PSTN 1.2, 6.3.12)."""
    match asked.kind, asked.request:
        case 0x21, 0x22:
            return asked.value & (DTR | RTS)
        case 0x40, 0x01:
            # The high byte says which of the lines in the low byte are meant.
            return before & ~(asked.value >> 8) | asked.value & asked.value >> 8
        case _:
            return before


def test_a_pulse_of_dtr_and_rts_reaches_the_wire(
    service: Service, adapter: Adapter, switch_on: Callable[..., Panel]
) -> None:
    panel = switch_on(adapter, *LOADER)
    steps = 'steps = ["dtr=1", "rts=0", "wait=200ms", "rts=1", "wait=300ms", "rts=0"]'
    service.configure(
        device_class("panel", matching(adapter), f'enter = {{ method = "pulse", {steps} }}', QUICK)
    )
    service.start()
    adapter.plug(1)
    with Listener() as listener:
        service.drop("panel", NEW, image())
        service.job("succeeded")
        heard = list(listener.heard)
    states: list[tuple[float, int]] = [(0.0, 0)]
    for asked in heard:
        after = lines_of(asked, states[-1][1])
        if after != states[-1][1]:
            states.append((asked.at_s, after))
    held = [
        ended - began
        for (began, state), (ended, after) in pairwise(states)
        if (state, after) == (DTR | RTS, DTR)
    ]
    # Opening may have raised both as well; the pulse is the one that was held.
    assert any(0.3 <= each < 3.0 for each in held), states
    assert_healthy(panel, erases=1)
