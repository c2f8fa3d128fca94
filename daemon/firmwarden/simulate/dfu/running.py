"""A simulated bus that runs within a program which uses it as its USB."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, Self

from firmwarden.simulate.dfu.bus import SimBus
from firmwarden.simulate.dfu.device import SimDfu
from firmwarden.simulate.dfu.report import write_report

if TYPE_CHECKING:
    from types import TracebackType

    from firmwarden.simulate.client import SimEvent
    from firmwarden.simulate.dfu.description import DescribedBus

_TICK_S: Final = 0.05


class RunningBus:
    """A bus with devices; within its context their time goes on by itself, also when nobody speaks to them.

    Attributes:
        bus: for `SimLister` and `SimBackend`.

    Raises:
        ValueError: a device cannot be as it is described.
    """

    def __init__(self, described: DescribedBus) -> None:
        self.bus = SimBus()
        self._devices = [(SimDfu(each.settings(), self._happened), each.port) for each in described.device]
        self._report = described.report
        self._news = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulated-usb")

    def __enter__(self) -> Self:
        self._write_report()
        for device, port in self._devices:
            self.bus.plug(device, *port)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._write_report()

    def _run(self) -> None:
        while not self._stop.wait(_TICK_S):
            self.bus.devices()
            if self._news:
                self._news = False
                self._write_report()

    def _happened(self, _event: SimEvent) -> None:
        self._news = True

    def _write_report(self) -> None:
        if self._report is not None:
            with self.bus.still():
                write_report(self._report, [device for device, _ in self._devices])
