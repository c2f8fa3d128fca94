"""What loaders do differently, in one table of switches; the defaults are a ROM without a known bug.

Sources are those of AN3156, AN2606 (the remarks on each family's loader), dfu-util 0.11 (quirks.c, dfuse.c), fwupd
(plugins/dfu) and betaflight-configurator #1861, #5300 and #5348; each switch names what showed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique


@unique
class WhileBusy(Enum):
    """What becomes of a GETSTATUS that comes while the device is still busy."""

    REFUSES = "stalled, and then dfuERROR: the standard, strictly"
    STALLS = "stalled, without consequences: some STM32L4 in a page erase"
    REPORTS = "answered with the busy state again: the standard's other reading"
    WITHHOLDS = "not answered until the work is done: STM32F4 in a mass erase"


@unique
class Leaving(Enum):
    """How a device takes the command to leave."""

    REPORTS = "answers the GETSTATUS with dfuMANIFEST, then it is gone"
    STALLS = "stalls that GETSTATUS, then it is gone"
    VANISHES = "is gone before that GETSTATUS"
    UNASKED = "is gone before it answers the command: GD32VF103"


@unique
class OnBadRead(Enum):
    """What the ROM does when the flash reports an error in what it reads.  No vendor tells."""

    RESETS = "its NMI handler resets the chip"
    READS_ON = "takes the bytes as they are"


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How a DfuSe loader behaves."""

    transfer_size: int = 2048
    """1024 on STM32G4 and C5."""
    alignment: int = 8
    """Of the address of a write (AN2606, table 7).  A misaligned one fails, and so do all after it."""
    erase_poll_ms: int | None = None
    write_poll_ms: int | None = None
    mass_erase_poll_ms: int | None = None
    """The poll time-outs that it announces; None: as long as the work takes."""
    while_busy: WhileBusy = WhileBusy.REFUSES
    works_in_transfer: bool = False
    """The first GETSTATUS is not answered before the work is done (STM32F745)."""
    clears_anywhere: bool = True
    """CLRSTATUS is taken outside dfuERROR too; STM32C5 stalls it."""
    sticks_busy_from: int | None = None
    """After an erase at or above this address it stays busy until its status is cleared twice (STM32H743 rev. V)."""
    corrupts_odd_lengths: bool = False
    """Writes of more than 256 bytes that are no multiple of 8 are corrupted (STM32L47x, V9.x and V10.x)."""
    reports_program_errors: bool = False
    """A granule that did not take its bytes ends in errPROG.  No ROM is known to do that."""
    reads_unprotect: bool = True
    """Knows the command 0x92; STM32H5 does not."""
    leaving: Leaving = Leaving.REPORTS
    selects: bool = True
    """Takes SET_INTERFACE; some loaders with one alternate setting stall it."""
    answers_functional: bool = True
    """Answers GET_DESCRIPTOR for the functional descriptor; STM32C5 keeps silent."""
    overlong_strings: bool = False
    """String descriptors promise more bytes than come (STM32F427)."""
    maps: tuple[str, ...] | None = None
    """What it shows instead of its true memory maps: STM32G0C1 names every memory as the flash, GD32VF103 has the
    wrong page size."""
    bank_check: OnBadRead = OnBadRead.RESETS
    """What it does about a first word that cannot be read: with RESETS it is reset for ever."""
    upload: OnBadRead = OnBadRead.READS_ON
    """The same in an upload: with RESETS it is off the bus, and back with nothing else lost."""
    clears_empty: bool = False
    """Clears the empty flag when it starts (STM32C051)."""
    keeps_banks: bool = False
    """An application in bank 2 that jumps into it leaves the banks swapped, as FB_MODE stays set without a reset.  No
    vendor tells."""
