"""Plain DFU as a simulated loader understands it: one image from its first byte on, sealed and started at the end.

The loader erases as the stream comes, keeps the first bytes in RAM, and writes them last, when the image behind its
seal is right.  Power that goes before leaves no sealed image, and the loader waits again.

Source: USB Device Class Specification for Device Firmware Upgrade, version 1.1, 6.1 and 6.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from firmwarden.protocol.dfu.requests import BLOCK_NUMBERS, Status
from firmwarden.protocol.dfu.states import DFU
from firmwarden.simulate.dfu.chip import ErasePage
from firmwarden.simulate.dfu.engine import Job
from firmwarden.simulate.dfu.firmware import is_sealed

if TYPE_CHECKING:
    from firmwarden.protocol.dfu.descriptors import FunctionalDescriptor
    from firmwarden.simulate.dfu.chip import Chip, Operation
    from firmwarden.simulate.dfu.engine import Standing
    from firmwarden.simulate.dfu.firmware import Service

_HELD_BACK: Final = 32
"""At least a seal, and whole granules of every kind of flash."""


class Streamed:
    """A loader that takes a stream."""

    table = DFU
    leaves = False

    def __init__(self, chip: Chip, service: Service) -> None:
        self.functional: FunctionalDescriptor = service.functional
        self._chip = chip
        self._service = service

    def refuses(self, standing: Standing, block: int, data: bytes) -> Status | None:
        """Refuse a block that is out of turn, or too much."""
        if block != standing.received // self.functional.transfer_size % BLOCK_NUMBERS:
            return Status.ERR_STALLEDPKT
        if self._service.start + standing.received + len(data) > self._service.end:
            return Status.ERR_ADDRESS
        return None

    def begin(self, standing: Standing, block: int, data: bytes) -> Job:
        """Erase the pages that a block reaches first, and write it."""
        del block
        offset = self._chip.offset(self._service.start) + standing.received
        flash = self._chip.flash
        pages = range(flash.page_at(offset), flash.page_at(offset + len(data) - 1) + 1)
        operations: list[Operation] = [ErasePage(page) for page in pages if flash.span(page)[0] >= offset]
        missing = max(0, _HELD_BACK - standing.received)
        standing.held_back += data[:missing]
        operations += self._chip.programming(offset + min(missing, len(data)), data[missing:])
        standing.received += len(data)
        return Job(tuple(operations))

    def finish(self, standing: Standing) -> Job:
        """Write what was held back, if that makes a whole image."""
        held = standing.held_back

        def read(address: int, size: int) -> bytes | None:
            data = self._chip.read(address, size)
            at = address - self._service.start
            return data if data is None else held[at : at + size] + data[max(0, len(held) - at) :]

        standing.received, standing.held_back = 0, b""
        if not is_sealed(read, self._service.start, self._service.end):
            return Job(status=Status.ERR_FIRMWARE)
        return Job(tuple(self._chip.programming(self._chip.offset(self._service.start), held)))

    def upload(self, standing: Standing, block: int, length: int) -> bytes | Status | None:
        """Return what the window holds."""
        del standing
        address = self._service.start + block * self.functional.transfer_size
        size = min(length, self._service.end - address)
        return self._chip.read(address, size) if size > 0 else b""
