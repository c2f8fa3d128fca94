"""The machine's clocks: set as by a hand or a time server, and stopped by a suspend to memory."""

from __future__ import annotations

import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lab.waiting import until

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

DAY_S: Final = 86_400.0

_ZONE: Final = Path("/etc/localtime")
_RESULTS: Final = Path("/mnt/results")
_ALARM: Final = Path("/sys/class/rtc/rtc0/wakealarm")
_STATE: Final = Path("/sys/power/state")


class WallClock:
    """The clock on the wall and its time zone, right again in the end."""

    def __enter__(self) -> Self:
        self._right = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _ZONE.unlink(missing_ok=True)
        self.jump(0)

    def jump(self, by_s: float) -> None:
        """Set it, so far from what is right."""
        right = self._right + time.clock_gettime(time.CLOCK_BOOTTIME)
        time.clock_settime(time.CLOCK_REALTIME, right + by_s)

    def move(self, east_s: int) -> None:
        """Set the time zone: so far east of Greenwich, by a file as tzfile(5) has it, with one kind of time."""
        counts = struct.pack(">6L", 0, 0, 0, 0, 1, 4)
        _ZONE.unlink(missing_ok=True)
        _ZONE.write_bytes(b"TZif" + bytes(16) + counts + struct.pack(">lBB", east_s, 0, 0) + b"LAB\0")


def suspend(for_s: int) -> float:
    """Suspend the machine to memory until its real-time clock wakes it; return for how long it was away.

    What is shared with the host does not outlive it: the driver loses its queue.
    """
    for mount in Path("/mnt").iterdir():
        subprocess.run(["umount", str(mount)], check=False, capture_output=True)
    subprocess.run(["modprobe", "--remove", "9p", "9pnet_virtio"], check=True)
    began = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    try:
        _ALARM.write_text("0")
        _ALARM.write_text(f"+{for_s}")
        _STATE.write_text("mem")
    finally:
        subprocess.run(["modprobe", "--all", "9pnet_virtio", "9p"], check=True)
        options = "trans=virtio,version=9p2000.L,msize=262144"
        again = ["mount", "-t", "9p", "-o", options, _RESULTS.name, str(_RESULTS)]
        until(lambda: subprocess.run(again, check=False, capture_output=True).returncode == 0, "a mount")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() - began
