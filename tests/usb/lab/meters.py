"""Simulated DFU devices on a USB of this kernel's: processes of ours, joined to it by USB/IP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.gateway import PROGRAM, SimulatedUsb
from support.processes import Process, close_all

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from firmwarden.simulate.dfu.report import DfuReport
    from support.processes import Record


class Meters:
    """Some devices, plugged in at once."""

    def __init__(self, place: Path, *devices: Mapping[str, object]) -> None:
        """Plug them in.

        Args:
            place: gets their description and their report.
            devices: as in a file for ``firmwarden simulate dfu``.
        """
        self._usb = SimulatedUsb(place, *devices)
        self.process = Process(
            "meters", *PROGRAM, "simulate", "dfu", self._usb.file, "--attach", "--stop-with-stdin"
        )
        try:
            for device in devices:
                self.wait_for("attached", str(device["name"]))
        except AssertionError:
            close_all([self.process])
            raise

    def wait_for(self, event: str, name: str, *, after: int = 0) -> Record:
        """Wait for something that happens to a device."""
        return self.process.wait_for(event, device=name, after=after, timeout_s=120)

    def report(self, name: str) -> DfuReport:
        """Return what a device says of itself, a tenth of a second ago at most."""
        return self._usb.told()[name]

    def close(self) -> None:
        """Pull them out for good."""
        close_all([self.process])
