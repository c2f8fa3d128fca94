"""What a device class says of its DFU units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, assert_never

from firmwarden.drivers.boot.outlook import Failsafe
from firmwarden.images.formats import ImageRules

if TYPE_CHECKING:
    import re

    from firmwarden.drivers.boot.facts import Family
    from firmwarden.drivers.entry import EnterCommand, EnterNone
    from firmwarden.drivers.usb_place import Ids
    from firmwarden.model import UsbFacts


@dataclass(frozen=True, slots=True)
class EnterDetach:
    """The application is asked by DFU_DETACH to make room."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSource:
    """Where an application tells its version to whoever looks, without being opened."""

    field: Literal["product", "serial", "revision", "manufacturer"]
    """``revision`` is bcdDevice as it is spoken of: 0x0210 is "2.10", 0x1005 is "10.05"."""
    expect: re.Pattern[str]
    """Its one group is the version."""

    def read(self, facts: UsbFacts) -> str | None:
        """Return what the application tells; None if that is no version."""
        match self.field:
            case "product":
                text = facts.product
            case "serial":
                text = facts.serial or ""
            case "revision":
                text = revision_text(facts.revision)
            case "manufacturer":
                text = facts.manufacturer
            case unreachable:
                assert_never(unreachable)
        found = self.expect.search(text)
        return found[1] if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DfuSettings:
    """One class."""

    application: frozenset[Ids] | None
    """What a unit goes by while its application runs; None: nobody knows, so anything may be it."""
    loader: frozenset[Ids] = frozenset({(0x0483, 0xDF11)})
    """The same for its loader; by default, the ROM of STM32."""
    image: ImageRules = field(default_factory=ImageRules)
    failsafe: Failsafe = Failsafe.NONE
    declared: bool = False
    """False: nobody said what it relies on, and nobody took the risk."""
    family: Family | None = None
    application_at: int | None = None
    """Where the application begins, behind a resident loader that is itself in the memory that is shown."""
    alternate: int | None = None
    """Of the memory that is written; None: that in which the image begins."""
    enter: EnterDetach | EnterCommand | EnterNone = field(default_factory=EnterDetach)
    enter_within_s: float = 10.0
    return_within_s: float = 15.0
    serial: str | None = None
    """By which the unit is known, where its class goes by that; its application has to show it."""
    version: VersionSource | None = None
    """None: that it is back as its application is all that can be known."""
    recognise: bool = False
    """Nobody knows what the unit runs, and it was not asked yet: so it is read, where its loader would else only write.
    One that takes addresses is read anyway."""
    attended: bool = False
    """A person is there: that nothing may protect the update is only noted, in ``DfuDriver.warnings``."""


def revision_text(revision: int) -> str:
    """Return a bcdDevice as it is spoken of."""
    return f"{revision >> 8:x}.{revision & 0xFF:02x}"
