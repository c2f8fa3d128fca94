"""Facts about the families of real MDFU clients, as data.

The numbers of the three families are those of the clients that Microchip publishes: the 8-bit client for
PIC18F56Q24, the 32-bit client for PIC32CM MC00 (UART variant) and the dsPIC33A boot loader.  ``generic`` is what the
specification describes and no more, with any buffer size.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from firmwarden.images.formats import ImageFormat
from firmwarden.protocol.mdfu.client_info import ClientInfo, ProtocolVersion
from firmwarden.protocol.mdfu.packet import AbortCause
from firmwarden.simulate.flash import Geometry

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_S: Final = 10.0
"""All real clients report this one for every command."""

_KIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one family of clients behaves."""

    name: str
    info: ClientInfo
    """What it answers to GET_CLIENT_INFO."""
    image_format: ImageFormat
    """RAW, MDFU_8BIT or MDFU_32BIT."""
    device_id: int
    flash: Geometry
    unlock_keys: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Page erase, page write, byte write, page read; the 8-bit format carries them in every block."""
    erases_in_start: bool
    """The whole area is erased in START_TRANSFER; otherwise in the first WRITE_CHUNK, when it was accepted."""
    refuses_unstarted: bool = True
    """A chunk without START_TRANSFER is refused; otherwise it is written from offset 0 on."""
    abort_causes: frozenset[AbortCause] = frozenset(AbortCause)
    """The causes it can tell.  Empty: it never sends one."""
    first_sequence: int = 0
    """The number it expects after a reset."""
    sequence_mask: int = 0x1F
    """The 8-bit and 32-bit clients take the reserved bit 5 for a part of the number."""
    errors_spoil_replay: bool = False
    """One length serves answers and error reports: after an error a repeated answer has the error's length."""
    executes_short_frames: bool = False
    """Takes the checksum of a frame with less than a header for the missing bytes."""
    reports_line_errors: bool = False
    """Answers RESEND at once when the UART reports an error, and again at the end of that frame."""
    resets_on_underflow: bool = False
    """A frame of less than two bytes makes it run wild until it resets."""
    resets_after_failure: bool = False
    """It resets after every abort and after it found the image invalid."""
    reset_delay_s: float = 0.0
    """From the answer to END_TRANSFER to the reset that follows it."""
    boot_s: float = 0.1
    """From a reset to the first byte that is heard."""

    @property
    def buffer_size(self) -> int:
        """The most data bytes a command may carry."""
        return self.info.buffer_size


_MICROCHIP_BLOCK_CAUSES: Final = frozenset(
    {
        AbortCause.GENERIC_CLIENT_ERROR,
        AbortCause.INVALID_FILE,
        AbortCause.ADDRESS_ERROR,
        AbortCause.WRITE_ERROR,
    }
)
"""A wrong device id is an invalid file for these two."""

_PIC8: Final = Profile(
    name="pic8",
    info=ClientInfo(
        version=ProtocolVersion(1, 2, 0),
        buffer_size=256 + 15,
        default_timeout_s=_TIMEOUT_S,
        inter_transaction_delay_s=0.0015,
    ),
    image_format=ImageFormat.MDFU_8BIT,
    device_id=0x0000_7640,
    flash=Geometry(
        start=0x3000, size=52 * _KIB, page_size=256, write_size=256, erase_s=0.005, write_s=0.005, check_s=0.4
    ),
    unlock_keys=(0x9D81, 0x9DC3, 0x9DA7, 0x9DE5),
    erases_in_start=False,
    abort_causes=_MICROCHIP_BLOCK_CAUSES,
    first_sequence=1,
    sequence_mask=0x3F,
    executes_short_frames=True,
    reset_delay_s=0.025,
)

_PIC32: Final = Profile(
    name="pic32",
    info=ClientInfo(version=ProtocolVersion(1, 0, 0), buffer_size=64 + 7, default_timeout_s=_TIMEOUT_S),
    image_format=ImageFormat.MDFU_32BIT,
    device_id=0x1107_0000,
    flash=Geometry(
        start=0x1000,
        size=124 * _KIB,
        page_size=256,
        write_size=64,
        erase_s=0.005,
        write_s=0.003,
        check_s=0.05,
    ),
    erases_in_start=False,
    abort_causes=_MICROCHIP_BLOCK_CAUSES,
    first_sequence=1,
    sequence_mask=0x3F,
    errors_spoil_replay=True,
    executes_short_frames=True,
)

_DSPIC: Final = Profile(
    name="dspic",
    info=ClientInfo(version=ProtocolVersion(1, 3, 0), buffer_size=128, default_timeout_s=_TIMEOUT_S),
    image_format=ImageFormat.RAW,
    device_id=0x0000_A77C,
    flash=Geometry(
        start=0, size=112 * _KIB, page_size=4 * _KIB, write_size=16, erase_s=0.02, write_s=0.0001, check_s=0.1
    ),
    erases_in_start=True,
    refuses_unstarted=False,
    abort_causes=frozenset(),
    reports_line_errors=True,
    resets_on_underflow=True,
    resets_after_failure=True,
)

_GENERIC: Final = Profile(
    name="generic",
    info=ClientInfo(version=ProtocolVersion(1, 3, 0), buffer_size=512, default_timeout_s=_TIMEOUT_S),
    image_format=ImageFormat.RAW,
    device_id=0x0000_0001,
    flash=Geometry(
        start=0,
        size=1024 * _KIB,
        page_size=4 * _KIB,
        write_size=64,
        erase_s=0.005,
        write_s=0.0002,
        check_s=0.1,
    ),
    erases_in_start=True,
)

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {profile.name: profile for profile in (_GENERIC, _PIC8, _PIC32, _DSPIC)}
)
"""The families by name."""
