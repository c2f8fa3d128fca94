"""What is concluded from how a device shows itself at its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from firmwarden.drivers.usb_place import Ids, Place, Shown
from firmwarden.model import UsbAddress, UsbFacts
from firmwarden.protocol.dfu.quirks import Mode
from firmwarden.transport.usb_link import UsbSeen
from support.dfu_bench import backend

if TYPE_CHECKING:
    from firmwarden.transport.usb_link import UsbLink

pytestmark = pytest.mark.anyio

APP, LOADER, BOTH = (0x1209, 1), (0x1209, 2), (0x1209, 3)

FUNCTIONAL = "09 21 0B FF 00 00 08 10 01"
PLAIN = "09 04 00 00 00 FF 00 00 00"


def configuration(*interfaces: str) -> bytes:
    body = bytes.fromhex("".join(interfaces))
    return bytes((9, 2, *(9 + len(body)).to_bytes(2, "little"), len(interfaces), 1, 0, 0xC0, 50)) + body


def dfu(protocol: int) -> str:
    return f"09 04 01 00 00 FE 01 {protocol:02x} 00 {FUNCTIONAL}"


class OneDevice:
    """A bus with a device that stays as it is."""

    def __init__(self, ids: Ids, *interfaces: str) -> None:
        vendor, product = ids
        facts = UsbFacts(vendor_id=vendor, product_id=product, topology="1-1")
        self.seen = UsbSeen(facts=facts, address=1, configuration=configuration(*interfaces))

    async def look(self, topology: str) -> UsbSeen | None:
        del topology
        return self.seen

    async def open(self, seen: UsbSeen, interface: int) -> UsbLink:
        raise AssertionError(f"nothing is opened here: {seen}, {interface}")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return backend(request.param)


def place(ports: OneDevice, *, unknown: bool = False) -> Place:
    application = None if unknown else frozenset({APP, BOTH})
    return Place(UsbAddress(topology="1-1"), ports, application=application, loader=frozenset({LOADER, BOTH}))


async def show(ids: Ids, *interfaces: str, unknown: bool = False) -> tuple[Place, Shown]:
    there = place(OneDevice(ids, *interfaces), unknown=unknown)
    return there, await there.find()


@pytest.mark.parametrize(
    ("ids", "interfaces", "mode"),
    [
        (APP, (PLAIN,), Mode.RUN_TIME),
        (APP, (PLAIN, dfu(1)), Mode.RUN_TIME),
        (APP, (PLAIN, dfu(0)), Mode.RUN_TIME),
        (LOADER, (dfu(2),), Mode.DFU),
        (LOADER, (PLAIN, dfu(0)), Mode.DFU),
        (LOADER, (dfu(1),), Mode.DFU),
        (BOTH, (dfu(2),), Mode.DFU),
        (BOTH, (PLAIN, dfu(1)), Mode.RUN_TIME),
        (BOTH, (PLAIN, dfu(0)), None),
    ],
)
async def test_ids_tell_the_mode_and_where_both_have_the_same_the_interface_does(
    ids: Ids, interfaces: tuple[str, ...], mode: Mode | None
) -> None:
    there, shown = await show(ids, *interfaces)
    assert shown.mode is mode
    assert there.may_be_application(shown) is (mode is not Mode.DFU)
    assert there.may_be_loader(shown) is (mode is not Mode.RUN_TIME)


async def test_without_a_word_about_it_whatever_is_no_loader_is_an_application() -> None:
    there, shown = await show((0x1D50, 0x6018), PLAIN, unknown=True)
    assert there.may_be_application(shown)
    assert not there.may_be_loader(shown)
    there, shown = await show(LOADER, dfu(2), unknown=True)
    assert there.may_be_loader(shown)
    assert not there.may_be_application(shown)


async def test_inv8_a_configuration_that_cannot_be_read_has_no_dfu_interface() -> None:
    ports = OneDevice(APP, PLAIN, dfu(1))
    ports.seen = UsbSeen(facts=ports.seen.facts, address=1, configuration=ports.seen.configuration[:-1])
    shown = await place(ports).find()
    assert (shown.interface, shown.mode) == (None, Mode.RUN_TIME)
