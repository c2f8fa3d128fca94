"""How a DFU device is reached at its place: opened, asked for its mode, brought into its loader."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar, assert_never

from firmwarden.drivers.dfu_settings import EnterDetach
from firmwarden.drivers.entry import EnterCommand, EnterNone, run_command
from firmwarden.drivers.usb_place import Place
from firmwarden.errors import BadImage, OpenFailed, PortHeld
from firmwarden.model import CauseCode
from firmwarden.protocol.dfu.host import detach, identify
from firmwarden.protocol.dfu.quirks import STANDARD, Mode, Quirks, quirks_of
from firmwarden.protocol.dfu.steps import Unit
from firmwarden.protocol.dfu.verdicts import failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator

    from firmwarden.drivers.dfu_settings import DfuSettings
    from firmwarden.drivers.dfu_shell import Shell
    from firmwarden.drivers.usb_place import Shown
    from firmwarden.model import UsbAddress, UsbFacts
    from firmwarden.protocol.dfu.conversation import Conversation
    from firmwarden.protocol.dfu.descriptors import DfuInterface
    from firmwarden.transport.usb_link import UsbLink, UsbPorts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opened:
    """A device that is open at its DFU interface."""

    link: UsbLink
    shell: Shell
    facts: UsbFacts
    interface: DfuInterface
    unit: Unit

    async def run(self, conversation: Conversation[T]) -> T:
        """Drive a conversation to its end."""
        return await self.shell.run(self.link, conversation)

    def with_memory(self, memory: str) -> Opened:
        """Return it with what is known of loaders that tell of such a memory."""
        facts = self.facts
        quirks = quirks_of(facts.vendor_id, facts.product_id, facts.revision, memory)
        return replace(self, unit=Unit.of(self.interface, quirks))


class Access:
    """The way to the units of a class at one place.

    Attributes:
        place: that.
    """

    def __init__(self, settings: DfuSettings, address: UsbAddress, ports: UsbPorts, shell: Shell) -> None:
        self.place = Place(
            address,
            ports,
            application=settings.application,
            loader=settings.loader,
            serial=settings.serial,
        )
        self._settings = settings
        self._address = address
        self._shell = shell

    @asynccontextmanager
    async def opened(self, shown: Shown) -> AsyncGenerator[Opened]:
        """Open a device; it is let go of at the end, whatever happened.

        Raises:
            AttemptFailed: it has no DFU interface, or none that can be used.
            OpenFailed: it cannot be opened.
            PortHeld: another program has the interface.
        """
        link = await self.place.open(shown)
        try:
            if shown.interface is None:
                raise TypeError("opened at an interface that it does not have")
            unit = Unit.of(shown.interface, shown.quirks)
            yield Opened(link, self._shell, shown.seen.facts, shown.interface, unit)
        finally:
            await link.aclose()

    async def mode(self, shown: Shown) -> Mode:
        """Tell the personality of a device; one that does not show it is asked.

        Raises:
            AttemptFailed: it has to be asked and does not answer.
            OpenFailed: it has to be asked and cannot be opened.
            PortHeld: the same, because of another program.
        """
        if shown.mode is not None:
            return shown.mode
        async with self.opened(shown) as device:
            return await device.run(identify(device.unit, None))

    async def enter(self, shown: Shown, entering: Callable[[], Awaitable[None]]) -> Shown:
        """Bring a device from its application into its loader, and return that.

        Args:
            shown: the application.
            entering: makes durable that it is about to be brought out of it.

        Raises:
            AttemptFailed: it does not come.
            OpenFailed: it cannot be opened.
            PortHeld: another program has the interface.
        """
        way = self._settings.enter
        match way:
            case EnterNone():
                detail = f"{shown} runs its application, and its class knows no way into its loader"
                raise failure(CauseCode.ENTRY_FAILED, detail)
            case EnterCommand():
                await entering()
                await run_command(way, self._address)
            case EnterDetach():
                # It is closed before the device is waited for: a link that is open may keep it from coming back.
                async with self.opened(shown) as application:
                    await entering()
                    await application.run(detach(application.unit))
            case unreachable:
                assert_never(unreachable)

        def has_come(there: Shown) -> bool:
            other = there.mode is Mode.DFU or there.seen.address != shown.seen.address
            return other and self.place.may_be_loader(there)

        within_s = patience(self._settings.enter_within_s, shown.quirks)
        came = await self.place.wait_for(has_come, within_s)
        if came is None or not has_come(came):
            there = "nothing" if came is None else str(came)
            detail = f"no loader came at {self._address} within {within_s:g} s: {there} is there"
            raise failure(CauseCode.ENTRY_FAILED, detail)
        return came


@contextmanager
def as_causes() -> Generator[None]:
    """Turn what an image or the way to a device brings into an attempt's cause."""
    try:
        yield
    except PortHeld:
        raise
    except OpenFailed as exc:
        raise failure(CauseCode.OPEN_FAILED, str(exc)) from exc
    except BadImage as exc:
        raise failure(CauseCode.IMAGE_UNFIT, str(exc)) from exc


def patience(class_s: float, quirks: Quirks) -> float:
    """Return how long a device may take to come back; what is known of a product may outdo its class."""
    known = quirks.reappears_within_s != STANDARD.reappears_within_s
    return max(class_s, quirks.reappears_within_s) if known else class_s
