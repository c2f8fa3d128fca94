"""What lies behind a serial port: a simulated device, joined to the far end of a wire.

The near end is a real tty of the kernel's; the simulated device listens on TCP, because it is a process of its own.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import tty
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final, cast

from support.gateway import PROGRAM
from support.processes import Process, close_all

if TYPE_CHECKING:
    from pathlib import Path

    from firmwarden.simulate.report import DeviceReport
    from support.processes import Record

_READ_SIZE: Final = 4096
_AGAIN_S: Final = 0.05


class Wire:
    """Passes bytes on between a character device and a TCP port, whatever happens to either."""

    def __init__(self, far_end: str, address: tuple[str, int]) -> None:
        self._far_end = far_end
        self._address = address
        self._over, self._cut = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name=f"wire to {far_end}")
        self._thread.start()

    def close(self) -> None:
        """Take the wire away."""
        self._cut.close()
        self._thread.join()
        self._over.close()

    def _run(self) -> None:
        over = False
        while not over:
            # Hung up, at either end: a device that is not there now comes back.
            with suppress(OSError):
                over = self._pass_on()
            over = over or bool(select.select([self._over], [], [], _AGAIN_S)[0])

    def _pass_on(self) -> bool:
        """Pass on until one side hangs up, or until the end, which is told."""
        with ExitStack() as ends:
            far = os.open(self._far_end, os.O_RDWR | os.O_NOCTTY)
            ends.callback(os.close, far)
            if os.isatty(far):
                tty.setraw(far)
            device = ends.enter_context(socket.create_connection(self._address))
            over = self._over.fileno()
            others = {far: device.fileno(), device.fileno(): far}
            while True:
                readable, _, _ = select.select([over, *others], [], [])
                if over in readable:
                    return True
                for source in readable:
                    data = os.read(source, _READ_SIZE)
                    if not data:
                        return False
                    while data:
                        data = data[os.write(others[source], data) :]


class Panel:
    """A simulated MDFU device at the end of a wire."""

    def __init__(self, place: Path, far_end: str, *options: object) -> None:
        """Switch it on.

        Args:
            place: gets its report.
            far_end: of the wire.
            options: of ``firmwarden simulate mdfu``.
        """
        self._report = place / "panel.json"
        self.process = Process(
            "panel",
            *(*PROGRAM, "simulate", "mdfu", "--stop-with-stdin", "--report", self._report),
            *("--tcp", "127.0.0.1:0", "--name", "panel", "--flash-time", 0.02, *options),
        )
        try:
            ready = self.wait_for("ready")
        except AssertionError:
            close_all([self.process])
            raise
        host, _, port = ready["devices"][0]["address"].rpartition(":")
        self._wire = Wire(far_end, (host, int(port)))

    def wait_for(self, event: str, *, after: int = 0) -> Record:
        """Wait for something that happens to it."""
        return self.process.wait_for(event, after=after, timeout_s=60)

    def report(self) -> DeviceReport:
        """Return what it says of itself, a tenth of a second ago at most."""
        (device,) = json.loads(self._report.read_text())["devices"]
        return cast("DeviceReport", device)

    def close(self) -> None:
        """Switch it off."""
        self._wire.close()
        close_all([self.process])
