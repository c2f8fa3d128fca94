"""A listener on the USB: which requests the kernel sends to a device's control pipe, and when.

Source: Linux kernel, Documentation/usb/usbmon.rst, "Raw text data format".
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lab.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

_ALL_BUSES: Final = "/sys/kernel/debug/usb/usbmon/0u"
_REQUEST: Final = re.compile(
    r"\w+ (?P<at>\d+) S C[io]:\d+:\d+:0 s (?P<kind>\w\w) (?P<request>\w\w) (?P<value>\w{4}) \w{4} \w{4} "
    r"(?:<|\d+(?: = (?P<data>[\w ]+))?)"
)


@dataclass(frozen=True, slots=True)
class ControlRequest:
    """One that was sent."""

    at_s: float
    kind: int
    request: int
    value: int
    data: bytes


class Listener:
    """Hears what is sent while it is open."""

    def __init__(self) -> None:
        self.heard: list[ControlRequest] = []
        self._text = os.open(_ALL_BUSES, os.O_RDONLY | os.O_NONBLOCK)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listens to the USB")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        os.close(self._text)

    def wait_for(self, condition: Callable[[ControlRequest], bool], what: str) -> ControlRequest:
        """Wait for a request, and return it."""
        return until(lambda: next(filter(condition, self.heard), None), what)

    def _listen(self) -> None:
        rest = ""
        while not self._over.wait(0.02):
            while piece := self._read():
                *lines, rest = (rest + piece).split("\n")
                self.heard += [
                    ControlRequest(
                        at_s=int(found["at"]) / 1e6,
                        kind=int(found["kind"], 16),
                        request=int(found["request"], 16),
                        value=int(found["value"], 16),
                        data=bytes.fromhex(found["data"] or ""),
                    )
                    for found in map(_REQUEST.match, lines)
                    if found is not None
                ]

    def _read(self) -> str:
        try:
            return os.read(self._text, 65_536).decode()
        except BlockingIOError:
            return ""
