"""What a power cut leaves, for each way to be safe and each stage of an update: the table that everything else obeys.

``plan`` and ``why`` read it to people, and the campaign in tests/faults cuts the power of simulated parts everywhere to
see that it is true.

It is about the loss of power.  While the device keeps its power (a cable, a host or a hub that dies), its loader goes
on running, and in every stage of every update the next visit can go on.
"""

from __future__ import annotations

from enum import Enum, StrEnum, unique
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.model import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping


@unique
class Failsafe(StrEnum):
    """What a device class says it relies on when the power fails in the middle of an update."""

    BFB2 = "bfb2"
    """The ROM runs first and stays in its loader when no bank holds an image: BFB2, nDBOOT and their kin."""
    EMPTY_CHECK = "empty-check"
    """The ROM's loader runs after power-on while the first word of the flash is erased."""
    RESIDENT_LOADER = "resident-loader"
    """A loader at the beginning of the flash, which no update touches, checks the application before it starts it."""
    GOLDEN_BANK = "golden-bank"
    """A complete image in bank 1, which no update touches, runs while bank 2 holds none."""
    NONE = "none"
    """Nothing, and the operator knows: an interruption can brick the device."""


@unique
class Stage(StrEnum):
    """A stage of an update, in the order in which they come."""

    READ = "read"
    """Look what is there."""
    INVALIDATE = "invalidate"
    """Erase the page that makes the device start its image, and see that it is erased."""
    ERASE = "erase"
    """Erase the other pages that differ."""
    WRITE = "write"
    """Write all but the commit."""
    VERIFY = "verify"
    """Read back the whole image, but for the commit."""
    COMMIT = "commit"
    """Write the first granule, which makes the device start the image."""
    CHECK = "check"
    """Read the commit back."""
    LEAVE = "leave"
    """Start the image."""

    @property
    def journal(self) -> Phase:
        """What must be on disk before the stage begins."""
        match self:
            case Stage.READ:
                return Phase.PROBING
            case Stage.LEAVE:
                return Phase.ENDING
            case _:
                return Phase.WRITING


@unique
class Outlook(Enum):
    """What the device does when its power comes back."""

    OLD = "the old image runs"
    NEW = "the new image runs"
    ROM = "the ROM's loader runs, and the update goes on"
    ROM_AT_POWER_ON = (
        "at power-on the ROM's loader runs, and the update goes on; a mere reset hangs until then"
    )
    GOLDEN = "the golden image runs, and the update goes on"
    LOADER = "the resident loader runs, starts nothing that is not whole, and the update goes on"
    MARGINAL = (
        "mostly as before this stage or as after it; but a first word that is half erased or half written may be "
        "taken for an image, and then only BOOT0 or a debugger helps"
    )
    DEAD = "it starts what is no image: only BOOT0 or a debugger helps"

    @property
    def safe(self) -> bool:
        """True when no power cut in such a stage needs a hand at the device."""
        return self not in {Outlook.MARGINAL, Outlook.DEAD}


def _row(invalidate: Outlook, body: Outlook, commit: Outlook) -> Mapping[Stage, Outlook]:
    return MappingProxyType(
        {
            Stage.READ: Outlook.OLD,
            Stage.INVALIDATE: invalidate,
            Stage.ERASE: body,
            Stage.WRITE: body,
            Stage.VERIFY: body,
            Stage.COMMIT: commit,
            Stage.CHECK: Outlook.NEW,
            Stage.LEAVE: Outlook.NEW,
        }
    )


_MARGINAL: Final = Outlook.MARGINAL

OUTLOOKS: Final[Mapping[Failsafe, Mapping[Stage, Outlook]]] = MappingProxyType(
    {
        Failsafe.BFB2: _row(_MARGINAL, Outlook.ROM, _MARGINAL),
        Failsafe.EMPTY_CHECK: _row(_MARGINAL, Outlook.ROM_AT_POWER_ON, _MARGINAL),
        Failsafe.RESIDENT_LOADER: _row(Outlook.LOADER, Outlook.LOADER, Outlook.LOADER),
        Failsafe.GOLDEN_BANK: _row(_MARGINAL, Outlook.GOLDEN, _MARGINAL),
        Failsafe.NONE: _row(Outlook.DEAD, Outlook.DEAD, Outlook.DEAD),
    }
)
"""Of an update that begins with the old image in place."""


def outlook(failsafe: Failsafe, stage: Stage, *, started_valid: bool = True) -> Outlook:
    """Return what a power cut in a stage leaves.

    Args:
        failsafe: what the device is protected by.
        stage: the stage.
        started_valid: False when the update goes on where another was cut, with no image in place: then there is
            nothing left to invalidate, and no old image to run.
    """
    row = OUTLOOKS[failsafe]
    if not started_valid and stage in {Stage.READ, Stage.INVALIDATE}:
        return row[Stage.WRITE]
    return row[stage]
